/** Runs of one thing, in seconds. */
export interface Timings {
  readonly title: string;
  readonly seconds: readonly number[];
  /** What the issue or the page promises, in seconds; absent for what is measured for comparison. */
  readonly mustSeconds?: number;
}

/** Times a piece of work once, in seconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
}

/** A table of minimum, median and maximum, beside what must hold. */
export function table(rows: readonly Timings[]): string {
  const cells = [
    ["measure", "runs", "min s", "median s", "max s", "must"],
    ...rows.map(({ title, seconds, mustSeconds }) => {
      const sorted = [...seconds].sort((one, other) => one - other);
      const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))] ?? NaN;
      const holds = mustSeconds === undefined || at(0.5) <= mustSeconds;
      return [
        title,
        String(sorted.length),
        ...[0, 0.5, 1].map((share) => at(share).toFixed((mustSeconds ?? 1) < 0.01 ? 4 : 2)),
        mustSeconds === undefined ? "" : `<= ${mustSeconds} ${holds ? "holds" : "does not hold"}`,
      ];
    }),
  ];
  const widths = cells[0]?.map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  );
  return cells
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths?.[column] ?? 0;
          return column === 0 || column === 5 ? cell.padEnd(width) : cell.padStart(width);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

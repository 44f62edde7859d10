import { readFile, rename, writeFile } from "node:fs/promises";

/**
 * Writes a file unless it holds exactly that: some programs end or reload when a file of theirs is
 * touched, and a platform that is adopted must not notice.
 *
 * @param mode @default 0o644
 */
export async function writeSettings(
  file: string,
  content: string | Buffer,
  mode = 0o644,
): Promise<void> {
  const wanted = Buffer.from(content);
  const present = await readFile(file).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  });
  if (present?.equals(wanted) === true) return;
  await writeFile(`${file}.new`, wanted, { mode });
  await rename(`${file}.new`, file);
}

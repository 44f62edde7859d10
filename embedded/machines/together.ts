/**
 * Does several things at once and waits for all of them, also when one fails: what still runs must
 * not outlive the failure's report. Throws the first failure in the order given.
 */
export async function together(work: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  for (const result of results) {
    if (result.status === "rejected") throw result.reason;
  }
}

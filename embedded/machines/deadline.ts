import { setTimeout as sleep } from "node:timers/promises";
import { MachineError } from "./machine-error.ts";
import type { MachineErrorDetails } from "./machine-error.ts";

/**
 * Waits until `check` says yes, asking every 25 ms.
 *
 * Throws a {@link MachineError} with `finding` once `seconds` are over.
 */
export async function untilTrue(
  finding: string,
  seconds: number,
  details: MachineErrorDetails,
  check: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await check())) {
    if (performance.now() > end) throw new MachineError(finding, details);
    await sleep(25);
  }
}

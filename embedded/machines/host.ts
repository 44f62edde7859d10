import { mkdir } from "node:fs/promises";
import { missingPackages } from "../debian-packages.ts";
import { assertMachineCanHost } from "../requirements.ts";
import { CACHE, CHECKOUT } from "./layout.ts";
import { MachineError } from "./machine-error.ts";

/**
 * Refuses a computer that cannot carry the machines, before anything is made.
 *
 * Throws a `PlatformError` whose sentence names what is missing and the way out.
 */
export async function checkHost(): Promise<void> {
  await assertMachineCanHost(true);
  const step = "check this computer";
  const missing = await missingPackages();
  if (missing.length > 0) {
    throw new MachineError(
      `Debian packages: must be installed, got none of ${missing.join(", ")}.`,
      { step, wayOut: `Run "apt-get install --no-install-recommends ${missing.join(" ")}".` },
    );
  }
  // An overlay's options have no way to write these characters.
  if (/[,:\s\\]/.test(CHECKOUT)) {
    throw new MachineError(
      `Checkout "${CHECKOUT}": its path must hold no comma, colon, backslash or blank.`,
      { step, wayOut: "Move the checkout to a plainer path." },
    );
  }
  await mkdir(CACHE, { recursive: true });
}

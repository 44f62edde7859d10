import { closeDoors } from "./doors/doors.ts";
import { stopPlatform } from "./machines/platform.ts";
import { Steps } from "./steps.ts";
import { letCool } from "./warm/warm-plugins.ts";

/** `npm stop`: ends every process and clears every mount, namespace, link and rule; the data stay for the next start. */
export async function stop(): Promise<number> {
  const steps = new Steps();
  await steps.run("doors", () => closeDoors());
  await steps.run("plugins that wait", () => letCool());
  await steps.run("machines and clusters", () => stopPlatform());
  process.stdout.write(
    "Stopped. Data and builds stay in .cache; remove that folder to forget them.\n",
  );
  return 0;
}

import { spawnSync } from "node:child_process";

import { bringUp } from "../bring-up.ts";
import { deploy, destroy, preview } from "../deploy.ts";
import { type LocalTenant, writeFleetStack, writeTenantStack } from "../local-fleet.ts";
import { Steps } from "../steps.ts";
import { buildToolchain, clearWorkshop } from "../toolchain/build.ts";
import { HELM } from "../toolchain/tools.ts";
import { plainTenant } from "./plain-tenant.ts";
import { table, timed, type Timings } from "./timings.ts";

const DEFAULT_RUNS = 5;

/**
 * `npm run bench -- [runs]`: how long the main job takes, beside what a user would otherwise pick doing the same
 * objects: plain `kubectl` with `psql`, and Helm with `psql`. One run, taken in turn, so that a slow moment of the
 * machine meets all of them.
 */
export async function bench(args: readonly string[]): Promise<number> {
  const runs = Number(args[0] ?? DEFAULT_RUNS);
  const steps = new Steps();
  const { facts, images } = await bringUp(steps);
  await steps.run("Helm, for comparison", (progress) => buildToolchain(progress, [HELM]));
  clearWorkshop();
  const fleet = await writeFleetStack(facts, images);
  await steps.run("fleet", () => deploy(fleet, facts));

  const ups: number[] = [];
  const sames: number[] = [];
  const repeats: number[] = [];
  const kubectls: number[] = [];
  const helms: number[] = [];
  const starts: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    const tenant: LocalTenant = { name: `bench-${run}`, location: "nl-1", plan: "lite" };
    const stack = await writeTenantStack(tenant);
    await steps.run(`round ${run + 1} of ${runs}`, async (progress) => {
      progress("pulumi up");
      ups.push(await timed(() => deploy(stack, facts)));
      progress("preview without change");
      sames.push(await timed(() => preview(stack, facts)));
      repeats.push(await timed(() => deploy(stack, facts)));
      const plain = await plainTenant(stack, facts, `plain-${run}`);
      await destroy(stack, facts);
      try {
        progress("kubectl and psql");
        kubectls.push(await timed(() => plain.byKubectl()));
        await plain.remove();
        progress("helm and psql");
        helms.push(await timed(() => plain.byHelm()));
      } finally {
        await plain.remove();
      }
      progress("npm start");
      starts.push(await timed(() => Promise.resolve(npmStart())));
    });
  }
  const rows: Timings[] = [
    { title: "tenant: pulumi up from nothing, policy pack on", seconds: ups, mustSeconds: 6 },
    { title: "tenant: preview without change", seconds: sames, mustSeconds: 3 },
    { title: "tenant: pulumi up without change", seconds: repeats },
    { title: "the same objects: kubectl apply and psql", seconds: kubectls },
    { title: "the same objects: helm install and psql", seconds: helms },
    { title: "second npm start", seconds: starts, mustSeconds: 10 },
  ];
  process.stdout.write(`\n${table(rows)}\n`);
  return 0;
}

function npmStart(): void {
  const { status } = spawnSync("npm", ["start", "--silent"], { stdio: "ignore" });
  if (status !== 0) throw new Error(`npm start must succeed, got exit code ${status}`);
}

import { spawnSync } from "node:child_process";
import { join } from "node:path";

import { bringUp } from "../bring-up.ts";
import { deploy, destroy, preview, runOnStack, settle } from "../deploy.ts";
import { rememberDeployed } from "../deployed.ts";
import { pulumiFailure, stackExport } from "../engine/engine.ts";
import { policyPack } from "../engine/policy-pack.ts";
import {
  LOCAL_FLEET,
  type LocalStack,
  localStackOf,
  type LocalTenant,
  TENANT_DOMAIN,
  writeFleetStack,
  writeTenantStack,
} from "../local-fleet.ts";
import { heldMib } from "../machines/control-groups.ts";
import { asOperator, type PlatformFacts } from "../machines/platform.ts";
import { PlatformError } from "../platform-error.ts";
import { DEMO_TENANT } from "../start.ts";
import { Steps } from "../steps.ts";
import { buildToolchain, clearWorkshop } from "../toolchain/build.ts";
import { HELM } from "../toolchain/tools.ts";
import { keepWarm, untilWarm } from "../warm/warm-plugins.ts";
import { plainTenant } from "./plain-tenant.ts";
import { table, timed, type Timings } from "./timings.ts";

const DEFAULT_RUNS = 5;
/** What a resource costs is less than what two previews of the same stack differ by: only many of them tell. */
const DEFAULT_PACK_RUNS = 16;
/** Previews with and without the pack in each round: they are short, and the machine has moods. */
const PREVIEWS = 3;
/** Tenants that are made at the same time, to see what a location takes in a minute. */
const AT_ONCE = 4;

/** `npm run bench -- [runs]`, or `npm run bench -- pack [runs]` for what the policy pack costs alone. */
export async function bench(args: readonly string[]): Promise<number> {
  return args[0] === "pack"
    ? benchPack(runsOf(args[1], DEFAULT_PACK_RUNS))
    : benchAll(runsOf(args[0], DEFAULT_RUNS));
}

function runsOf(text: string | undefined, otherwise: number): number {
  const runs = Number(text ?? otherwise);
  if (Number.isInteger(runs) && runs > 0) return runs;
  throw new PlatformError(
    `Runs "${text ?? ""}": must be a whole number from 1, or pack and one. Say npm run bench -- 3.`,
  );
}

/**
 * A tenant's preview without change, in turn with the pack and without it; each waits until all that it can find waits,
 * and every other round begins with the one without, since what ran just before can be felt.
 */
async function benchPack(runs: number): Promise<number> {
  const steps = new Steps();
  const { facts } = await bringUp(steps);
  await keepWarm(facts);
  const stack = await writeTenantStack(DEMO_TENANT);
  await steps.run(`tenant ${DEMO_TENANT.name}`, () => deploy(stack, facts));
  const judged: number[] = [];
  const unjudged: number[] = [];
  const fleet = localStackOf(LOCAL_FLEET);
  const fleetJudged: number[] = [];
  const fleetUnjudged: number[] = [];
  await steps.run(`${runs} previews each`, async () => {
    for (let run = 0; run < runs; run += 1) {
      await previewBoth(stack, facts, judged, unjudged);
      await previewBoth(fleet, facts, fleetJudged, fleetUnjudged);
    }
  });
  const difference = (one: readonly number[], other: readonly number[]): number[] =>
    one.map((seconds, run) => seconds - (other[run] ?? NaN));
  const dearer = difference(judged, unjudged);
  // The fleet has more of them: what each costs is what the pack costs more there.
  const more = (await resourcesOf(fleet)) - (await resourcesOf(stack));
  const each = difference(difference(fleetJudged, fleetUnjudged), dearer).map((s) => s / more);
  const rows: Timings[] = [
    { title: "preview with the policy pack", seconds: judged, mustSeconds: 3 },
    { title: "preview without", seconds: unjudged },
    { title: "the pack, run by run", seconds: dearer, mustSeconds: 0.5 },
    { title: "the fleet's preview with the policy pack", seconds: fleetJudged },
    { title: "the fleet's preview without", seconds: fleetUnjudged },
    { title: `the pack, each of ${more} resources more`, seconds: each, mustSeconds: 0.005 },
  ];
  process.stdout.write(`\n${table(rows)}\n`);
  return 0;
}

async function resourcesOf({ name }: LocalStack): Promise<number> {
  return (await stackExport(name)).deployment.resources?.length ?? 0;
}

async function previewBoth(
  stack: LocalStack,
  facts: PlatformFacts,
  judged: number[],
  unjudged: number[],
): Promise<void> {
  const isJudgedFirst = judged.length % 2 === 0;
  for (const isJudged of [isJudgedFirst, !isJudgedFirst]) {
    await untilWarm();
    if (isJudged) judged.push(await timed(() => preview(stack, facts)));
    else unjudged.push(await timed(() => runOnStack(["preview"], stack, facts)));
  }
}

/**
 * How long the main job takes, beside what a user would otherwise pick doing the same objects: plain `kubectl` with
 * `psql`, and Helm with `psql`. One run, taken in turn, so that a slow moment of the machine meets all of them.
 */
async function benchAll(runs: number): Promise<number> {
  const steps = new Steps();
  const { facts, images } = await bringUp(steps);
  await steps.run("Helm, for comparison", (progress) => buildToolchain(progress, [HELM]));
  clearWorkshop();
  await keepWarm(facts);
  const fleet = await writeFleetStack(facts, images);
  await steps.run("fleet", () => deploy(fleet, facts));
  // Or the next start would look at it once more.
  await rememberDeployed(fleet, facts, [fleet.configFile]);

  const ups: number[] = [];
  const pages: number[] = [];
  const sames: number[] = [];
  const repeats: number[] = [];
  const kubectls: number[] = [];
  const helms: number[] = [];
  const starts: number[] = [];
  const unjudged: number[] = [];
  const destroys: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    const tenant: LocalTenant = { name: `bench-${run}`, location: "nl-1", plan: "lite" };
    const stack = await writeTenantStack(tenant);
    await steps.run(`round ${run + 1} of ${runs}`, async (progress) => {
      progress("pulumi up");
      await settle(stack, facts);
      await untilWarm();
      const up = await timed(() => pulumi(["up", "--yes"], stack, facts));
      ups.push(up);
      pages.push(up + (await timed(() => Promise.resolve(waitForPage(tenant.name, facts)))));
      progress("preview without change");
      for (let turn = 0; turn < PREVIEWS; turn += 1) {
        await previewBoth(stack, facts, sames, unjudged);
      }
      await untilWarm();
      repeats.push(await timed(() => deploy(stack, facts)));
      const plain = await plainTenant(stack, facts, `plain-${run}`);
      progress("destroy");
      destroys.push(await timed(() => destroy(stack, facts)));
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
  const together = await steps.run(`${AT_ONCE} tenants at once`, () => manyAtOnce(facts));
  const rows: Timings[] = [
    { title: "tenant: pulumi up from nothing, policy pack on", seconds: ups, mustSeconds: 6 },
    {
      title: "tenant: the same until its page answers over HTTPS",
      seconds: pages,
      mustSeconds: 10,
    },
    { title: "tenant: preview without change", seconds: sames, mustSeconds: 3 },
    { title: "tenant: preview without change and without the pack", seconds: unjudged },
    { title: "tenant: a deploy without change: preview, check of the pack, up", seconds: repeats },
    { title: "tenant: pulumi destroy", seconds: destroys },
    { title: "the same objects: kubectl apply and psql", seconds: kubectls },
    { title: "the same objects: helm install and psql", seconds: helms },
    { title: "second npm start", seconds: starts, mustSeconds: 10 },
    { title: `${AT_ONCE} tenants at once: pulumi up`, seconds: [together.pulumi] },
    { title: `${AT_ONCE} tenants at once: kubectl apply and psql`, seconds: [together.kubectl] },
  ];
  const perMinute = (seconds: number): string => ((AT_ONCE / seconds) * 60).toFixed(1);
  process.stdout.write(
    `\n${table(rows)}\n\nTenants a minute on one location: ${perMinute(together.pulumi)} with pulumi up, ` +
      `${perMinute(together.kubectl)} with kubectl and psql (aim: 60).\n` +
      `Memory for each tenant: ${together.podMib.toFixed(1)} MiB in its pods, ${together.tenantMib.toFixed(0)} MiB in ` +
      "the whole location, whose own programs collect garbage when they like.\n",
  );
  return 0;
}

/** The CLI as its user calls it, with the pack. */
async function pulumi(
  args: readonly string[],
  stack: LocalStack,
  facts: PlatformFacts,
): Promise<void> {
  const run = await runOnStack([...args, "--policy-pack", policyPack()], stack, facts);
  if (run.exitCode !== 0) throw pulumiFailure(stack.name, run);
}

/** Several tenants of one location, made at the same time: by the engine, then by plain tools. */
async function manyAtOnce(
  facts: PlatformFacts,
): Promise<{ pulumi: number; kubectl: number; podMib: number; tenantMib: number }> {
  const stacks = await Promise.all(
    Array.from({ length: AT_ONCE }, (_, index) =>
      writeTenantStack({ name: `many-${index}`, location: "nl-1", plan: "lite" }),
    ),
  );
  await untilWarm();
  const held = (): { pods: number; all: number } => ({
    pods: heldMib("nl-1", "kubepods"),
    all: heldMib("nl-1"),
  });
  const before = held();
  const pulumi = await timed(() => Promise.all(stacks.map((stack) => deploy(stack, facts))));
  const after = held();
  const podMib = (after.pods - before.pods) / AT_ONCE;
  const tenantMib = (after.all - before.all) / AT_ONCE;
  const plain = await Promise.all(
    stacks.map((stack, index) => plainTenant(stack, facts, `bare-${index}`)),
  );
  await Promise.all(stacks.map((stack) => destroy(stack, facts)));
  try {
    const kubectl = await timed(() => Promise.all(plain.map((tenant) => tenant.byKubectl())));
    return { pulumi, kubectl, podMib, tenantMib };
  } finally {
    await Promise.all(plain.map((tenant) => tenant.remove()));
  }
}

/** Ends once the tenant's page is there; the time of a process's start is in it. */
function waitForPage(tenant: string, facts: PlatformFacts): void {
  const script = join(import.meta.dirname, "page.ts");
  const { address } = facts.machines["nl-1"];
  const [command = "", ...args] = asOperator(
    [process.execPath, script, address, `${tenant}.${TENANT_DOMAIN}`],
    facts,
  );
  const { status } = spawnSync(command, args, { stdio: "inherit", timeout: 60_000 });
  if (status !== 0) throw new Error(`The page of ${tenant} must answer within a minute`);
}

function npmStart(): void {
  const { status } = spawnSync("npm", ["start", "--silent"], { stdio: "ignore" });
  if (status !== 0) throw new Error(`npm start must succeed, got exit code ${status}`);
}

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";

import { judgedPreview } from "../../embedded/deploy.ts";
import { pulumiFailure, runPulumi } from "../../embedded/engine/engine.ts";
import { policyPack } from "../../embedded/engine/policy-pack.ts";
import type { LocalStack } from "../../embedded/local-fleet.ts";
import { localStackOf } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { CACHE, ROOT } from "../../embedded/paths.ts";
import type { Exception } from "../../model/exceptions.ts";
import { RULES } from "../../policies/rules.ts";
import { EXCEPTION_TYPE, TENANT_TYPE } from "../../policies/tenant-stack.ts";
import { judgedFields, type Read } from "../policies/judged-fields.ts";
import {
  FULL,
  type Mutant,
  MUTANTS,
  nameOf,
  STACKS,
  SUSPENDED,
  titleOf,
} from "../policies/mutants.ts";
import { goodFleetInput, goodHostInput, TEST_ROOT_KEY } from "../support/good.ts";
import { platform } from "../support/platform.ts";
import { SMUGGLED, type Spoiling } from "./spoilt-program/spoiling.ts";

type StackName = keyof typeof STACKS;
const STACK_NAMES = Object.keys(STACKS) as StackName[];
const PROGRAM = join(import.meta.dirname, "spoilt-program");
const STACK_TYPE = "pulumi:pulumi:Stack";

/** As the engine shows it: the rule, below it what the rule is about, below that the message. */
const VIOLATION = /\[mandatory\](?: \[severity: \w+\])?\s+(\S+)[^\n]*\n[^\n]*\n\s*([^\n]+)/g;

/** Something wrong, and what the pack must say of it. */
interface Case {
  readonly title: string;
  readonly spoilings: readonly Spoiling[];
  /** By which rule; any rule where none is named. */
  readonly rule?: string;
  readonly message: string;
  /** Whether it changes what else is judged: no other one stands beside it. */
  readonly isAlone?: boolean;
}

/** What the pack has said. */
interface Said {
  readonly rule: string;
  readonly message: string;
}

describe("the policy pack over the real program, spoilt", { timeout: 600_000 }, () => {
  let facts: PlatformFacts;
  let folder: string;
  const stacks = {} as Record<StackName, LocalStack>;

  beforeAll(async () => {
    facts = await platform();
    folder = mkdtempSync(join(CACHE, "spoilt-"));
    const rootKeyFile = join(folder, "root-key");
    writeFileSync(rootKeyFile, TEST_ROOT_KEY.toString("base64"));
    // The machines of the local fleet, and for the rest what the unit tests' fleet says: so are their messages the same.
    const text = readFileSync(localStackOf("local").configFile, "utf8");
    const local = parse(text) as {
      config: {
        "fluxbilling:fleet": {
          locations: Record<
            string,
            { encryptedFolders?: unknown; kubernetes: { volumes?: unknown } }
          >;
        };
      };
    };
    const { name, panelDomain, tenantDomain, settingsKeyId, imageRegistries, images } =
      goodFleetInput();
    const fleet = {
      ...local.config["fluxbilling:fleet"],
      ...{ name, panelDomain, tenantDomain, settingsKeyId, imageRegistries, images },
      protectData: true,
    };
    const write = (of: StackName, stack: string, config: object): void => {
      const configFile = join(folder, `Pulumi.${of.replace(" ", "-")}.yaml`);
      writeFileSync(configFile, stringify({ config }));
      const environment = { SETTINGS_ENCRYPTION_KEY_FILE: rootKeyFile };
      stacks[of] = { name: stack, configFile, environment };
    };
    write("fleet", "test", { "fluxbilling:fleet": fleet });
    const tenant = { name: "acme", location: "nl-1" };
    const fleetFile = stacks.fleet.configFile.slice(ROOT.length + 1);
    // A host that is prepared has K3s's folders, as in the unit tests, and not those of the embedded machines.
    const { locations } = structuredClone(fleet);
    for (const location of Object.values(locations)) {
      delete location.encryptedFolders;
      delete location.kubernetes.volumes;
    }
    const hostFleetFile = join(folder, "Pulumi.host-fleet.yaml");
    writeFileSync(
      hostFleetFile,
      stringify({ config: { "fluxbilling:fleet": { ...fleet, locations } } }),
    );
    write("host", "test.host.nl-1", {
      "fluxbilling:fleetFile": hostFleetFile.slice(ROOT.length + 1),
      "fluxbilling:host": goodHostInput(),
    });
    for (const [of, settings] of [
      ["tenant", tenant],
      ["suspended tenant", { ...tenant, ...SUSPENDED }],
      ["full tenant", { ...tenant, ...FULL }],
    ] as const) {
      write(of, "test.acme", {
        "fluxbilling:fleetFile": fleetFile,
        "fluxbilling:tenant": settings,
      });
    }
  });

  afterAll(async () => {
    for (const { name } of [stacks.tenant, stacks.host, stacks.fleet]) {
      await runPulumi(["stack", "rm", name, "--yes"]);
    }
    rmSync(folder, { recursive: true });
  });

  it.each(STACK_NAMES)("finds nothing in a good %s", async (of) => {
    const { run, report } = await spoiltPreview(stacks[of], []);
    if (run.exitCode !== 0) throw pulumiFailure(of, run);
    expect(report?.rules.filter(({ violations }) => violations > 0)).toEqual([]);
  });

  it.each(STACK_NAMES)("refuses every mutant of a good %s, by its rule", async (of) => {
    const cases = RULES.flatMap(({ name, remediation }) =>
      (MUTANTS[name] ?? [])
        .filter(({ stack = "tenant", add }) => stack === of && add?.type !== EXCEPTION_TYPE)
        .map((mutant) => ({
          title: titleOf(mutant),
          spoilings: spoilingsOf(mutant),
          rule: name,
          message: `${saidOnEngine(mutant, stacks[of].name)} ${remediation}`,
          isAlone:
            mutant.provider !== undefined ||
            mutant.type === TENANT_TYPE ||
            mutant.type?.startsWith("pulumi:providers:") === true,
        })),
    );
    expect(cases.length).toBeGreaterThan(0);
    expect(await unrefused(stacks[of], cases)).toEqual([]);
  });

  it.each(STACK_NAMES)(
    "refuses an Output in each field of a good %s that it judges",
    async (of) => {
      const fields = fieldsOf(of);
      // What another tenant has of every tenant has been shown there.
      if (of === "suspended tenant" || of === "full tenant")
        for (const title of fieldsOf("tenant").keys()) fields.delete(title);
      expect(fields.size).toBeGreaterThan(0);
      const cases = [...fields].map(
        ([
          title,
          {
            resource: { type, name },
            steps,
          },
        ]): Case => ({
          title,
          spoilings: [{ type, name, set: { [steps.join(".")]: SMUGGLED } }],
          message: `${name}: ${steps.join(".").replaceAll("\\.", ".")} must be known at preview, got an unknown value. Pass a plain value, not an Output.`,
        }),
      );
      expect(await unrefused(stacks[of], cases)).toEqual([]);
    },
  );

  it("refuses exceptions that have ended, last too long, or that nobody answers for", async () => {
    const mutants = (MUTANTS["no-exception-has-ended"] ?? []).filter(
      ({ add }) => add !== undefined,
    );
    const pack = join(folder, "pack");
    for (const part of ["policies", "model"]) {
      cpSync(join(ROOT, part), join(pack, part), { recursive: true });
    }
    const file = join(pack, "model", "exceptions.ts");
    const exceptions = mutants.map(({ add }) => add?.props as Exception);
    const text = readFileSync(file, "utf8");
    const written = text.replace(
      /(EXCEPTIONS: readonly Exception\[\] = )\[\]/,
      `$1${JSON.stringify(exceptions)}`,
    );
    expect(written).not.toBe(text);
    writeFileSync(file, written);
    const { said } = await preview(stacks.tenant, [], join(pack, "policies"));
    for (const { says } of mutants) {
      const [sentence = ""] = says;
      expect(said.filter(({ message }) => message.startsWith(sentence))).toHaveLength(1);
    }
  });

  /**
   * What nobody refused, with what the engine said instead: as many cases in one preview as fit together, and where one
   * keeps others from being heard, each half of them by itself.
   */
  async function unrefused(stack: LocalStack, cases: readonly Case[]): Promise<readonly string[]> {
    if (cases.length === 0) return [];
    const together: Case[] = [];
    for (const one of cases) {
      if (together.every((other) => fit(one, other))) together.push(one);
    }
    const rest = cases.filter((one) => !together.includes(one));
    const { said, output } = await preview(stack, together);
    const left = together.filter(
      ({ rule, message }) =>
        !said.some((one) => one.message === message && (rule ?? one.rule) === one.rule),
    );
    const [only] = left;
    const never =
      together.length === 1 && only !== undefined
        ? [`${only.title}: must be refused with "${only.message}", got:\n${output}`]
        : [
            ...(await unrefused(stack, left.slice(0, left.length / 2))),
            ...(await unrefused(stack, left.slice(left.length / 2))),
          ];
    return [...never, ...(await unrefused(stack, rest))];
  }

  /** What a preview is refused for, in the engine's own output; nothing where it is not refused. */
  async function preview(
    stack: LocalStack,
    cases: readonly Case[],
    pack = policyPack(),
  ): Promise<{ readonly said: readonly Said[]; readonly output: string }> {
    const spoilings = cases.flatMap((one) => one.spoilings);
    const { run } = await spoiltPreview(stack, spoilings, pack);
    const output = stripVTControlCharacters(`${run.stdout}\n${run.stderr}`);
    const found = run.exitCode === 0 ? [] : [...output.matchAll(VIOLATION)];
    const said = found.map(([, rule = "", message = ""]) => ({ rule, message: message.trim() }));
    return { said, output };
  }

  function spoiltPreview(
    stack: LocalStack,
    spoilings: readonly Spoiling[],
    pack = policyPack(),
  ): ReturnType<typeof judgedPreview> {
    const file = join(folder, "spoilings.json");
    writeFileSync(file, JSON.stringify(spoilings));
    const secrets = { DIRECTORY_PASSWORD: "the directory's" };
    const place = { cwd: PROGRAM, env: { FLUX_SPOILINGS: file, ...secrets } };
    return judgedPreview(stack, facts, place, ["--policy-pack", pack]);
  }
});

/** Every field of a good stack that some rule reads. */
function fieldsOf(of: StackName): Map<string, Read> {
  return new Map(
    judgedFields(STACKS[of]).map((read) => [
      [read.resource.type, read.resource.name, ...read.steps].join(" "),
      read,
    ]),
  );
}

/** The message, which the engine's own name for a stack and a provider's defaults change. */
function saidOnEngine({ add, says, saysWithDefaults }: Mutant, stack: string): string {
  const [message = ""] = saysWithDefaults ?? says;
  return add?.type === STACK_TYPE ? message.replace(add.name, `fluxbilling-${stack}`) : message;
}

function spoilingsOf(mutant: Mutant): readonly Spoiling[] {
  const { type = "", set = {}, opts, provider, remove, add } = mutant;
  if (add?.type === STACK_TYPE) {
    return [{ type: STACK_TYPE, name: "", set: add.props as Record<string, unknown> }];
  }
  if (add !== undefined) {
    const given = add.provider === undefined ? {} : { provider: add.provider };
    return [{ type: add.type, name: add.name, add: add.props, ...given }];
  }
  const name = nameOf(mutant);
  if (remove === true) {
    return [{ type, name, remove }];
  }
  const spoilt = {
    ...{ type, name },
    // JSON has no undefined.
    set: Object.fromEntries(Object.entries(set).map(([path, value]) => [path, value ?? null])),
    ...opts,
    ...(provider === undefined ? {} : { provider }),
  };
  if (provider === undefined) return [spoilt];
  // One that the stack does not have is made like its own.
  const [kind, plugin] = type.startsWith("kubernetes:")
    ? (["cluster", "kubernetes"] as const)
    : (["server", "postgresql"] as const);
  const like = `${mutant.stack === "fleet" ? "master" : "nl-1"}-${kind}`;
  return [spoilt, { type: `pulumi:providers:${plugin}`, name: provider, like }];
}

/** Whether two cases can stand in one preview: neither touches what the other does, and both are heard apart. */
function fit(one: Case, other: Case): boolean {
  if (one.isAlone === true || other.isAlone === true) return false;
  if (one.message === other.message && one.rule === other.rule) return false;
  return one.spoilings.every((mine) =>
    other.spoilings.every((theirs) => {
      if (mine.type !== theirs.type || mine.name !== theirs.name) return true;
      if (mine.set === undefined || theirs.set === undefined) return false;
      const paths = Object.keys(theirs.set).map((path) => `${path}.`);
      return Object.keys(mine.set).every((path) =>
        paths.every((their) => !their.startsWith(`${path}.`) && !`${path}.`.startsWith(their)),
      );
    }),
  );
}

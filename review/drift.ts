import { createHash } from "node:crypto";
import { exceptionTenant, FLEET } from "../model/exceptions.ts";
import { TENANT_NAMESPACE_PREFIX } from "../model/labels.ts";
import { quantity } from "../policies/kubernetes-objects.ts";
import { shown } from "../policies/rule.ts";
import type { RuleFacts, Subject } from "../policies/rule.ts";
import { HIDDEN } from "./assess.ts";
import type { Finding } from "./finding.ts";
import { typeOf } from "./live-cluster.ts";
import type { LiveObject } from "./live-cluster.ts";
import { hidden, nameOf } from "./state.ts";
import type { StoredResource, StoredStack } from "./state.ts";

/** The rule under which differences between what is recorded and what is there are told. */
export const DRIFT: RuleFacts = {
  name: "state-and-live-agree",
  description:
    "What a stack records is there as recorded, and nothing is there that no stack records.",
  group: "lifecycle",
  severity: "high",
  claims: ["F42"],
  references: ["SOC 2 CC7.1", "SOC 2 CC8.1", "PCI DSS 4.0.1 6.5.1", "ISO 27001:2022 A.8.9"],
  remediation:
    "Bring it back with npm run pulumi -- up, or put the change into the program; remove what was made by hand.",
};

/** What is there on one machine. */
export interface LiveMachine {
  readonly machine: string;
  readonly objects: readonly LiveObject[];
  /** What is in its PostgreSQL. */
  readonly server: readonly Subject[];
}

/** Fields with no defaults of the cluster's: what is there beside what is recorded is a change. */
const EXACT =
  /^kubernetes:(networking\.k8s\.io\/v1:NetworkPolicy|traefik\.io\/.*|core\/v1:ResourceQuota)$/;
/** Maps in which a further key is a change, wherever they are. */
const WHOLE_MAPS = new Set(["matchLabels", "hard", "limits", "requests", "capabilities"]);
/** What Kubernetes keeps under other words than it was given. */
const RENAMED = new Set(["stringData", "apiVersion", "kind"]);

/** Compares each recorded object and role with what is there, and tells what is there beside them. */
export function drift(
  stacks: readonly StoredStack[],
  machines: readonly LiveMachine[],
): readonly Finding[] {
  const recorded = stacks.flatMap((stack) =>
    stack.resources.map((resource) => ({ stack, resource })),
  );
  return machines.flatMap((live) => {
    const here = recorded.filter(({ resource }) => machineOf(resource) === live.machine);
    return [...clusterDrift(here, live), ...serverDrift(here, live)];
  });
}

interface Recorded {
  readonly stack: StoredStack;
  readonly resource: StoredResource;
}

function clusterDrift(here: readonly Recorded[], live: LiveMachine): readonly Finding[] {
  const objects = new Map(
    live.objects.map((object) => [
      `${typeOf(object)} ${object.metadata.namespace ?? ""}/${object.metadata.name}`,
      object,
    ]),
  );
  const findings: Finding[] = [];
  for (const { stack, resource } of here) {
    if (!resource.type.startsWith("kubernetes:")) {
      continue;
    }
    const { metadata } = (resource.inputs ?? {}) as {
      metadata?: { name?: string; namespace?: string };
    };
    const key = `${resource.type} ${metadata?.namespace ?? ""}/${metadata?.name ?? ""}`;
    const object = objects.get(key);
    objects.delete(key);
    const inputs = hidden(resource.inputs);
    const faults =
      object === undefined
        ? ["must be there, got nothing"]
        : differences(inputs, object, "", EXACT.test(resource.type));
    findings.push(
      finding(
        live.machine,
        stack.name,
        `${resource.type} ${nameOf(resource.urn)}`,
        faults,
        object ?? {},
        JSON.stringify(inputs).includes(JSON.stringify(HIDDEN)),
      ),
    );
  }
  for (const [key, object] of objects) {
    const namespace = object.metadata.namespace ?? object.metadata.name;
    findings.push(
      finding(
        live.machine,
        namespace,
        key,
        ["must be recorded in a stack, got made by hand"],
        object,
      ),
    );
  }
  return findings;
}

function serverDrift(here: readonly Recorded[], live: LiveMachine): readonly Finding[] {
  const left = new Map(
    live.server.map((subject) => [identity(subject.type, subject.props), subject]),
  );
  const findings: Finding[] = [];
  for (const { stack, resource } of here) {
    if (!resource.type.startsWith("postgresql:") || resource.inputs === undefined) {
      continue;
    }
    const inputs = hidden(resource.inputs) as Readonly<Record<string, unknown>>;
    const key = identity(resource.type, inputs);
    const subject = left.get(key);
    left.delete(key);
    const faults =
      subject === undefined
        ? ["must be there, got nothing"]
        : serverDifferences(inputs, subject.props as Readonly<Record<string, unknown>>);
    findings.push(
      finding(
        live.machine,
        stack.name,
        `${resource.type} ${nameOf(resource.urn)}`,
        faults,
        subject?.props ?? {},
        JSON.stringify(inputs).includes(JSON.stringify(HIDDEN)),
      ),
    );
  }
  for (const { type, name, props } of left.values()) {
    const { privileges, role } = props as { privileges?: readonly string[]; role?: string };
    // That PUBLIC has nothing is no grant; what a server is set to is in no stack.
    if (!type.startsWith("postgresql:") || (privileges?.length === 0 && role !== undefined)) {
      continue;
    }
    findings.push(
      finding(
        live.machine,
        live.machine,
        `${type} ${name}`,
        ["must be recorded in a stack, got made by hand"],
        props,
      ),
    );
  }
  return findings;
}

/** What makes a role, a database, a schema or a grant the same one. */
function identity(type: string, props: unknown): string {
  const { name, database, role, owner, schema, objectType } = props as Readonly<
    Record<string, string | undefined>
  >;
  const parts = type.includes("defaultPrivileges")
    ? [database, role, owner, schema, objectType]
    : type.includes("grant")
      ? [database, role, objectType, objectType === "schema" ? schema : ""]
      : [database ?? "", name];
  return [type, ...parts.map((part) => part ?? "")].join(" ");
}

/** Inputs of PostgreSQL's that can be read back. */
const READ_BACK = [
  ...["login", "superuser", "createDatabase", "createRole", "replication"],
  ...["bypassRowLevelSecurity", "connectionLimit", "statementTimeout"],
  ...["idleInTransactionSessionTimeout", "owner", "roles", "privileges"],
];

function serverDifferences(
  inputs: Readonly<Record<string, unknown>>,
  live: Readonly<Record<string, unknown>>,
): readonly string[] {
  const words = (value: unknown): string =>
    Array.isArray(value) ? value.map(String).toSorted().join(", ") || "none" : shown(value);
  return READ_BACK.filter(
    (key) => inputs[key] !== undefined && words(inputs[key]) !== words(live[key]),
  ).map((key) => `${key} must be ${words(inputs[key])}, got ${words(live[key])}`);
}

/** Where a live value differs from a recorded one: `<path> must be <recorded>, got <live>`. */
function differences(
  recorded: unknown,
  live: unknown,
  path: string,
  exact: boolean,
): readonly string[] {
  if (recorded === HIDDEN) {
    return live === undefined ? [`${path} must be there, got nothing`] : [];
  }
  if (Array.isArray(recorded)) {
    const entries: readonly unknown[] = Array.isArray(live) ? live : [];
    return recorded.length !== entries.length
      ? [`${path} must have ${recorded.length} entries, got ${entries.length}`]
      : recorded.flatMap((entry, index) =>
          differences(entry, entries[index], `${path}.${index}`, exact),
        );
  }
  if (typeof recorded === "object" && recorded !== null) {
    const fields = Object.entries(recorded).filter(([key]) => path !== "" || !RENAMED.has(key));
    const there = (typeof live === "object" && live !== null ? live : {}) as Readonly<
      Record<string, unknown>
    >;
    const faults = fields.flatMap(([key, value]) =>
      differences(value, there[key], path === "" ? key : `${path}.${key}`, exact),
    );
    const last = path.split(".").at(-1) ?? "";
    const isWhole =
      (exact && path.startsWith("spec")) ||
      (fields.length === 0 && path.startsWith("spec")) ||
      WHOLE_MAPS.has(last);
    const more = isWhole ? Object.keys(there).filter((key) => !(key in recorded)) : [];
    return [...faults, ...more.map((key) => `${path}.${key} must not be there, got it`)];
  }
  return same(recorded, live) ? [] : [`${path} must be ${shown(recorded)}, got ${shown(live)}`];
}

function same(recorded: unknown, live: unknown): boolean {
  if (recorded === live || String(recorded) === String(live)) {
    return true;
  }
  const number = typeof recorded === "string" ? quantity(recorded) : undefined;
  return number !== undefined && typeof live === "string" && number === quantity(live);
}

function finding(
  machine: string,
  owner: string,
  subject: string,
  faults: readonly string[],
  live: unknown,
  /** Whether a part of what is recorded is kept encrypted, so that it cannot be compared. */
  isHidden = false,
): Finding {
  const isTenant = owner.startsWith(TENANT_NAMESPACE_PREFIX) || exceptionTenant(owner) !== FLEET;
  return {
    rule: DRIFT.name,
    status: faults.length > 0 ? "fail" : isHidden ? "not-assessed" : "pass",
    source: "live",
    scope: isTenant ? `${machine}/${owner}` : machine,
    subject,
    message:
      faults.length > 0
        ? `${subject}: ${faults.join("; ")}. ${DRIFT.remediation}`
        : isHidden
          ? `${subject} is there, and what is recorded in the open agrees. Not assessed: the rest is kept encrypted.`
          : DRIFT.description,
    evidence: {
      readFrom: `machine ${machine}, ${subject}`,
      sha256: createHash("sha256")
        .update(JSON.stringify(live) ?? "")
        .digest("hex"),
    },
  };
}

/** The machine that a resource's provider is for. */
function machineOf({ provider }: StoredResource): string | undefined {
  const name = provider?.split("::").at(-2);
  return /^(?<machine>.+)-(cluster|server)$/.exec(name ?? "")?.groups?.["machine"];
}

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXCEPTIONS, FLEET } from "../model/exceptions.ts";
import { REVIEWED_PACK } from "../model/policy-pack.ts";
import { isTenantName, tenantName, tenantNames, tenantStackName } from "../model/tenant-name.ts";
import type { FleetSettings, SshSettings } from "../model/settings.ts";
import type { Rule, RuleFacts, Subject } from "../policies/rule.ts";
import { RULES } from "../policies/rules.ts";
import { TENANT_TYPE } from "../policies/tenant-stack.ts";
import type { SecretSource } from "../stacks/secret-source.ts";
import { assess } from "./assess.ts";
import type { Scope } from "./assess.ts";
import { drift, DRIFT } from "./drift.ts";
import type { LiveMachine } from "./drift.ts";
import type { Finding, RecordSet } from "./finding.ts";
import { asCsv } from "./formats/csv.ts";
import { asHtml } from "./formats/html.ts";
import { asJson } from "./formats/json.ts";
import { asJunit } from "./formats/junit.ts";
import { asOscal } from "./formats/oscal.ts";
import { asSarif } from "./formats/sarif.ts";
import { clusterScopes, liveNodes, liveObjects, liveVolumes, synthetic } from "./live-cluster.ts";
import { liveStorage } from "./live-host.ts";
import type { HostAccess } from "./live-host.ts";
import { liveServer } from "./live-server.ts";
import { cannotReach, CANNOT_REACH } from "./question.ts";
import type { Side } from "./question.ts";
import { ReviewError } from "./review-error.ts";
import { nodesEncryptWhatTheySend } from "./rules/nodes-encrypt-what-they-send.ts";
import { serverLetsOwnRolesInOnly } from "./rules/server-lets-own-roles-in-only.ts";
import { serverSpeaksTls13 } from "./rules/server-speaks-tls-1-3.ts";
import { storageIsEncrypted } from "./rules/storage-is-encrypted.ts";
import { tenantsShareNoSecret } from "./rules/tenants-share-no-secret.ts";
import { stateScope } from "./state.ts";
import type { StoredStack } from "./state.ts";

/** Rules about what only a live server, cluster or host shows. */
export const LIVE_RULES: readonly Rule[] = [
  nodesEncryptWhatTheySend,
  serverLetsOwnRolesInOnly,
  serverSpeaksTls13,
  storageIsEncrypted,
];

/** Every rule that a report can name and no preview runs. */
export const REVIEW_ONLY_RULES: readonly RuleFacts[] = [
  ...LIVE_RULES,
  tenantsShareNoSecret,
  DRIFT,
  CANNOT_REACH,
];

/** Everything of a fleet that is running, as it is now. */
export interface LiveFleet {
  readonly machines: readonly LiveMachine[];
  readonly scopes: readonly Scope[];
}

/** What a review is made of. */
export interface ReviewInput {
  readonly fleet: string;
  readonly now: Date;
  /** Findings of previews, where any were run. */
  readonly previews: readonly Finding[];
  readonly stacks: readonly StoredStack[];
  readonly live: LiveFleet | undefined;
  /** The moment that the stacks were recorded before. @default now */
  readonly asOf?: Date;
}

/** Judges what it is given, by the rules of the pack and those of live servers. */
export function review(input: ReviewInput): RecordSet {
  const { now, stacks, live, previews } = input;
  const findings = [
    ...previews,
    ...stacks.flatMap((stack) => assess(RULES, stateScope(stack), EXCEPTIONS, now)),
    ...(live?.scopes ?? []).flatMap((scope) =>
      assess(scope.tenant === FLEET ? [...RULES, ...LIVE_RULES] : RULES, scope, EXCEPTIONS, now),
    ),
    ...(live === undefined
      ? []
      : [
          ...assess([tenantsShareNoSecret], allSecrets(live), EXCEPTIONS, now),
          ...drift(stacks, live.machines),
        ]),
  ];
  return recordSet(input, [...RULES, ...LIVE_RULES, tenantsShareNoSecret, DRIFT], findings);
}

/** The Secrets of every cluster together. */
function allSecrets({ scopes }: LiveFleet): Scope {
  return {
    source: "live",
    name: "all clusters",
    tenant: FLEET,
    subjects: scopes.flatMap(({ subjects }) =>
      subjects.filter(({ type }) => type === "kubernetes:core/v1:Secret"),
    ),
    readFrom: ({ urn }) => urn,
  };
}

/**
 * Answers whether one tenant can reach another, out of the same reading.
 *
 * @throws ReviewError when a tenant's stack is not in the record.
 */
export function answer(input: ReviewInput, from: string, to: string): RecordSet {
  const side = (name: string): Side => {
    const stack = isTenantName(name)
      ? input.stacks.find((candidate) => candidate.name === tenantStackName(input.fleet, name))
      : undefined;
    if (stack === undefined) {
      throw new ReviewError(
        `Tenant "${name}": must have a stack in the record, got ${input.stacks.map((known) => known.name).join(", ") || "none"}. Name a tenant of the fleet, or a later moment by --as-of.`,
      );
    }
    return { tenant: tenantName(name), scope: stateScope(stack) };
  };
  const liveSide = (name: string): Side | undefined => {
    const scope = input.live?.scopes.find((candidate) =>
      candidate.name.endsWith(`/${tenantNames(tenantName(name)).namespace}`),
    );
    return scope === undefined ? undefined : { tenant: tenantName(name), scope };
  };
  const stored = cannotReach(side(from), side(to));
  const [liveFrom, liveTo] = [liveSide(from), liveSide(to)];
  const found = liveFrom === undefined || liveTo === undefined ? [] : cannotReach(liveFrom, liveTo);
  return recordSet(input, [CANNOT_REACH], [...stored, ...found]);
}

function recordSet(
  { fleet, now, asOf }: ReviewInput,
  rules: readonly RuleFacts[],
  findings: readonly Finding[],
): RecordSet {
  return {
    fleet,
    packVersion: REVIEWED_PACK.version,
    reviewedAt: now.toISOString(),
    ...(asOf === undefined ? {} : { asOf: asOf.toISOString() }),
    rules: rules.map(({ name, description, group, severity, claims, references, remediation }) => ({
      ...{ name, description, group, severity, claims, references, remediation },
    })),
    findings,
    exceptions: EXCEPTIONS,
  };
}

/**
 * Reads every cluster, server and host of a fleet: what is in them, whoever made it.
 *
 * @param stacks The record, for what a cluster does not say: which registries the fleet allows.
 */
export async function readLive(fleet: FleetSettings, secrets: SecretSource): Promise<LiveFleet> {
  const host = (
    name: string,
    setting: string,
    address: string,
    ssh: SshSettings,
    folders: readonly string[],
  ): HostAccess => ({
    ...{ host: name, address, folders, port: ssh.port, user: ssh.user, hostKey: ssh.hostKey },
    privateKey: `${secrets.read(ssh.privateKey, `fluxbilling:fleet.${setting}.ssh.privateKey`)}\n`,
  });
  const others = Promise.all(
    [
      host(
        "standby",
        "standby",
        fleet.standby.address,
        fleet.standby.ssh,
        fleet.standby.encryptedFolders,
      ),
      ...Object.entries(fleet.backupStores).map(([name, { address, ssh, path }]) =>
        host(`store-${name}`, `backupStores.${name}`, address, ssh, [path]),
      ),
    ].map(async (one): Promise<Scope> => ({
      ...{ source: "live", name: one.host, tenant: FLEET, readFrom: ({ urn }) => urn },
      subjects: [await liveStorage(one)],
    })),
  );
  const access = [
    ["master", fleet.master] as const,
    ...Object.entries(fleet.locations).map(([name, location]) => [name, location] as const),
  ];
  const read = await Promise.all(
    access.map(async ([machine, { address, ssh, encryptedFolders, kubernetes, postgres }]) => {
      const place = machine === "master" ? machine : `locations.${machine}`;
      const setting = `fluxbilling:fleet.${place}`;
      const kubeconfig = secrets.read(kubernetes.kubeconfig, `${setting}.kubernetes.kubeconfig`);
      const [objects, nodes, storage, server] = await Promise.all([
        liveObjects(kubeconfig),
        liveNodes(kubeconfig, machine),
        liveVolumes(kubeconfig).then((volumes) =>
          liveStorage(host(machine, place, address, ssh, encryptedFolders), volumes),
        ),
        liveServer({
          machine,
          host: address,
          port: postgres.port,
          user: postgres.adminUser,
          password: secrets.read(postgres.adminPassword, `${setting}.postgres.adminPassword`),
          ca: secrets.readPublic(postgres.caFile, `${setting}.postgres.caFile`).toString("utf8"),
        }),
      ]);
      const scopes = clusterScopes(objects, {
        machine,
        imageRegistries: fleet.imageRegistries,
        encryptedFolders,
        database: { host: address, port: postgres.port },
      });
      return { machine, objects, own: [nodes, storage], server, scopes };
    }),
  );
  return {
    machines: read.map(({ machine, objects, server }) => ({
      machine,
      objects,
      server: [...server.values()].flat(),
    })),
    scopes: [
      ...read.flatMap(({ machine, scopes, server, own }) =>
        withServer(machine, scopes, server, own),
      ),
      ...(await others),
    ],
  };
}

/** Puts what is in a server to the tenants that it belongs to; what is left is the machine's, as its nodes and storage are. */
function withServer(
  machine: string,
  scopes: readonly Scope[],
  server: ReadonlyMap<string, readonly Subject[]>,
  own: readonly Subject[],
): readonly Scope[] {
  const left = new Map(server);
  const joined = scopes.map((scope): Scope => {
    if (scope.tenant === FLEET || !isTenantName(scope.tenant)) {
      return scope;
    }
    const { database } = tenantNames(scope.tenant);
    const inside = left.get(database) ?? [];
    left.delete(database);
    return { ...scope, subjects: [...scope.subjects, ...inside] };
  });
  const rest = [...left.values()].flat();
  const shared = joined.find(({ tenant }) => tenant === FLEET);
  const fleetScope: Scope = {
    source: "live",
    name: machine,
    tenant: FLEET,
    readFrom: ({ urn }) => urn,
    subjects: [
      synthetic("fluxbilling:fleet:DatabaseServer", `${machine}-server`, {}),
      ...(shared?.subjects ?? []),
      ...rest,
      ...own,
    ],
  };
  return [...joined.filter(({ tenant }) => tenant !== FLEET), fleetScope];
}

/** Names of the tenants that a record holds. */
export function tenantsIn(stacks: readonly StoredStack[]): readonly string[] {
  return stacks.flatMap(({ resources }) =>
    resources
      .filter(({ type }) => type === TENANT_TYPE)
      .map(({ inputs }) => String(inputs?.["tenant"])),
  );
}

/** Every format of a record set, by the name of its file. */
export const FORMATS: Readonly<Record<string, (records: RecordSet) => string>> = {
  "review.json": asJson,
  "review.sarif": asSarif,
  "review.junit.xml": asJunit,
  "review.oscal.json": asOscal,
  "review.csv": asCsv,
  "review.html": asHtml,
};

/** Writes a record set in every format. */
export async function writeReports(records: RecordSet, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await Promise.all(
    Object.entries(FORMATS).map(([file, format]) =>
      writeFile(join(folder, file), format(records), { mode: 0o600 }),
    ),
  );
}

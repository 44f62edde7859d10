import { readdirSync, readFileSync, statSync } from "node:fs";
import { Agent, request } from "node:https";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";

import { readImages } from "../../embedded/images/build-images.ts";
import type { MachineFacts, PlatformFacts } from "../../embedded/machines/platform.ts";
import { COMPONENT_LABEL } from "../../model/labels.ts";
import { APP_PORT, MQTT_PORT } from "../../model/network.ts";
import { CONTAINER_SECURITY, POD_SECURITY } from "../../model/pod.ts";
import { apply, kubectl, query } from "../support/platform.ts";
import {
  listenIn,
  type PodProcess,
  probeFrom,
  processesOfPod,
  processOfPod,
} from "../support/pods.ts";
import type { Outcomes, Probe, Probes } from "../support/probe.ts";
import {
  askAsOperator,
  neighbours,
  onMachine,
  secretOf,
  secretsOf,
  type TestTenant,
  volumeFolder,
} from "../support/tenants.ts";

/** A namespace without any policy: what can be reached from there is there, and is shut to tenants by policy alone. */
const OPEN = "open-probe";
/** A run of a tenant's replay. */
const REPLAY = "replay-by-hand";
/** The metadata service of most providers, played by the standby. */
const METADATA = "169.254.169.254";
/** The outer world, played by the standby: an address that documentation may use (RFC 5737). */
const OUTER_WORLD = "203.0.113.7";
const OUTER_PORTS = [25, 80, 443, 587] as const;

describe("two tenants on one location", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;
  let a: TestTenant;
  let b: TestTenant;
  let appOfA: PodProcess;
  let open: PodProcess;
  const cleanUps: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    ({ facts, a, b } = await neighbours());
    ({ location } = a);
    await apply(
      location,
      { apiVersion: "v1", kind: "Namespace", metadata: { name: OPEN } },
      await sleepingPod(OPEN, "open", {}),
      await sleepingPod(a.namespace, "probe-backup", { [COMPONENT_LABEL]: "backup" }),
      await sleepingPod(a.namespace, "probe-stray", {}),
      await sleepingPod(b.namespace, "probe-replay", { [COMPONENT_LABEL]: "replay" }),
    );
    cleanUps.push(
      () => kubectl(location, "delete", "namespace", OPEN),
      () => kubectl(location, ...["delete", "pod", "probe-backup", "probe-stray"], ...inside(a)),
      () => kubectl(location, "delete", "pod", "probe-replay", ...inside(b)),
    );
    for (const [namespace, ...pods] of [
      [OPEN, "open"],
      [a.namespace, "probe-backup", "probe-stray"],
      [b.namespace, "probe-replay"],
    ] as const) {
      await kubectl(
        location,
        ...["wait", "pod", ...pods, "--namespace", namespace],
        ...["--for=condition=Ready", "--timeout=60s"],
      );
    }
    // Beyond the location's machine, whose own ports 80 and 443 lead to its ingress whatever the address.
    const { standby } = facts.machines;
    for (const address of [METADATA, OUTER_WORLD]) {
      const route = [`${address}/32`, "via", standby.address];
      await onMachine(standby, ["ip", "address", "replace", `${address}/32`, "dev", "lo"]);
      await onMachine(location, ["ip", "route", "replace", ...route]);
      cleanUps.push(async () => {
        await onMachine(location, ["ip", "route", "delete", ...route]);
        await onMachine(standby, ["ip", "address", "delete", `${address}/32`, "dev", "lo"]);
      });
    }
    open = await processOfPod(location, OPEN, "open");
    appOfA = await processOfPod(location, a.namespace, "-l", `${COMPONENT_LABEL}=app`);
    cleanUps.push(
      await listenIn(open, [{ address: "0.0.0.0", port: APP_PORT }]),
      await listenIn(standby, [
        { address: METADATA, port: 80 },
        ...OUTER_PORTS.map((port) => ({ address: OUTER_WORLD, port })),
      ]),
    );
  });

  afterAll(async () => {
    for (const cleanUp of cleanUps.toReversed()) await cleanUp();
  });

  describe("from inside a tenant's application", () => {
    it("reaches its own database and the name server, and of the outer world mail and HTTPS", async () => {
      expect(
        await probeFrom(appOfA, {
          database: tcp(location.address, 5432),
          names: udp(clusterOf(location).clusterDnsAddress, 53),
          https: tcp(OUTER_WORLD, 443),
          submission: tcp(OUTER_WORLD, 587),
        }),
      ).toEqual({
        database: "connected",
        names: "answered",
        https: "connected",
        submission: "connected",
      });
    });

    it("reaches nothing that a pod without policies does reach", async () => {
      const reachable: Probes<string> = {
        "the Kubernetes API's service": tcp(await serviceAddress("default", "kubernetes"), 443),
        "the Kubernetes API itself": tcp(location.address, 6443),
        "the Kubernetes API of the master": tcp(facts.machines.master.address, 6443),
        "the metadata service": tcp(METADATA, 80),
        "the node's kubelet": tcp(location.address, 10_250),
        "the node's SSH": tcp(location.address, 22),
        "the node's ingress": tcp(location.address, 443),
        "the ingress's service": tcp(await serviceAddress("kube-system", "traefik"), 443),
        "another pod": tcp(await podAddress(OPEN, "open"), APP_PORT),
        "another pod, UDP": udp(await podAddress(OPEN, "open"), APP_PORT),
        "the store of all backups": tcp(facts.machines.master.address, 22),
        "the master's database": tcp(facts.machines.master.address, 5432),
        "another location's database": tcp(facts.machines["fi-1"].address, 5432),
        "the standby": tcp(facts.machines.standby.address, 22),
        "mail to anybody": tcp(OUTER_WORLD, 25),
        "HTTP in clear": tcp(OUTER_WORLD, 80),
        "HTTPS' port, UDP": udp(OUTER_WORLD, 443),
      };
      expect(refusedOf(await probeFrom(open, reachable))).toEqual([]);
      expect(refusedOf(await probeFrom(appOfA, reachable))).toEqual(Object.keys(reachable));
    });

    it("does not reach the other tenant, whom the ingress does reach", async () => {
      const application = await addressOf(b);
      const otherTenant = {
        service: tcp(await serviceAddress(b.namespace, "app"), 80),
        pod: tcp(application, APP_PORT),
        devices: tcp(application, MQTT_PORT),
      };
      const all = Object.keys(otherTenant);
      const ingress = await processOfPod(
        location,
        "kube-system",
        ...["-l", "app.kubernetes.io/name=traefik"],
      );
      expect(refusedOf(await probeFrom(ingress, otherTenant))).toEqual([]);
      expect(refusedOf(await probeFrom(appOfA, otherTenant))).toEqual(all);
      // Shut on the other tenant's side as well: a pod that may send to everybody is not let in.
      expect(refusedOf(await probeFrom(open, otherTenant))).toEqual(all);
    });

    it("finds in its files its own secrets and none of the other tenant's", async () => {
      const [app] = (
        await processesOfPod(location, a.namespace, "-l", `${COMPONENT_LABEL}=app`)
      ).filter(({ program }) => program === "tenant-app");
      const files = filesBelow(`/proc/${app?.pid ?? 0}/root/run/secrets`);
      const ofTheApp = (secret: string): boolean => /^(database-app|keys|contract)-/.test(secret);
      for (const [tenant, isThere] of [
        [a, true],
        [b, false],
      ] as const) {
        const values = [...(await secretsOf(tenant))]
          .filter(([secret]) => ofTheApp(secret))
          .flatMap(([, content]) => [...content])
          // The same for both, and no secret: the server's authority, and the number of a version.
          .filter(([file]) => file !== "ca.crt" && file !== "active")
          .map(([, value]) => value);
        expect(values.length).toBeGreaterThanOrEqual(8);
        for (const value of values) {
          expect(files.some((file) => file.equals(value))).toBe(isThere);
        }
      }
      expect(readFileSync(`/proc/${app?.pid ?? 0}/mountinfo`, "utf8")).not.toContain(b.namespace);
    });
  });

  describe("from inside other pods of a tenant's namespace", () => {
    it("a backup reaches the database and the store, and nothing else", async () => {
      const backup = await processOfPod(location, a.namespace, "probe-backup");
      const outcomes = await probeFrom(backup, await fewTargets());
      expect(reachedOf(outcomes)).toEqual(["database", "store"]);
    });

    it("a pod that is neither reaches nothing at all", async () => {
      const stray = await processOfPod(location, a.namespace, "probe-stray");
      expect(reachedOf(await probeFrom(stray, await fewTargets()))).toEqual([]);
    });

    it("a replay reaches nothing at all, its own application neither", async () => {
      const replay = await processOfPod(location, b.namespace, "probe-replay");
      const application = await addressOf(b);
      const targets = {
        ...(await fewTargets()),
        "names, TCP": tcp(clusterOf(location).clusterDnsAddress, 53),
        "the Kubernetes API's service": tcp(await serviceAddress("default", "kubernetes"), 443),
        "its own application": tcp(application, APP_PORT),
        "its own devices": tcp(application, MQTT_PORT),
        "mail by submission": tcp(OUTER_WORLD, 587),
      };
      expect(reachedOf(await probeFrom(replay, targets))).toEqual([]);
    });

    it("a replay that is started by hand goes through what was recorded and ends", async () => {
      const folder = `${await volumeFolder(b)}/recorded`;
      const script = 'mkdir -p "$1"; printf %s "$2" >"$1/1.json"; chmod -R a+rX "$1"';
      const request = JSON.stringify({ method: "POST", path: "/records?subject=ann", body: {} });
      await onMachine(location, ["sh", "-euc", script, "sh", folder, request]);
      cleanUps.push(() => onMachine(location, ["rm", "-r", folder]));
      const before = (await askAsOperator(b, { path: "/usage" })).body;
      await kubectl(location, "create", "job", REPLAY, "--from=cronjob/replay", ...inside(b));
      cleanUps.push(() => kubectl(location, "delete", "job", REPLAY, ...inside(b)));
      await kubectl(
        location,
        ...["wait", `job/${REPLAY}`, ...inside(b), "--for=condition=Complete", "--timeout=60s"],
      );
      const line = await kubectl(location, "logs", `job/${REPLAY}`, ...inside(b));
      expect(line.trim().split("\n")).toHaveLength(1);
      expect(JSON.parse(line)).toEqual({
        tenant: b.name,
        requests: 1,
        routes: { "POST /records": 1 },
        unanswered: 0,
        unreadable: 0,
        complete: true,
      });
      // What was recorded is not done again.
      const records = (usage: string): unknown =>
        (JSON.parse(usage) as { records: number }).records;
      expect(records((await askAsOperator(b, { path: "/usage" })).body)).toBe(records(before));
    });

    it("would have been reached from a pod without policies", async () => {
      const { otherTenant, ...rest } = await fewTargets();
      expect(refusedOf(await probeFrom(open, rest))).toEqual([]);
      expect(otherTenant.kind).toBe("tcp");
    });
  });

  describe("with a tenant's logins, from inside its own pod", () => {
    it("enters its own database and no other", async () => {
      const app = await login(a, "app");
      const backup = await login(a, "backup");
      const elsewhere = [b.database, "postgres", "template0", "template1", "kine"];
      expect(
        await probeFrom(appOfA, {
          "the application": { ...app, statement: "select current_user" },
          "the backup": { ...backup, statement: "select count(*) >= 0 from app.records" },
        }),
      ).toEqual({ "the application": a.appRole, "the backup": "true" });
      const outcomes = await probeFrom(
        appOfA,
        Object.fromEntries(
          [app, backup].flatMap((probe) =>
            elsewhere.map((database) => [`${probe.user} in ${database}`, { ...probe, database }]),
          ),
        ),
      );
      expect(Object.keys(outcomes)).toHaveLength(2 * elsewhere.length);
      // No rule of pg_hba.conf lets them in: invalid_authorization_specification.
      expect(new Set(Object.values(outcomes))).toEqual(new Set(["28000"]));
    });

    it("is kept out of the other database by its grants too, not by the server's rules alone", async () => {
      expect(
        await query(
          location,
          `select rolname as role, datname as database
           from pg_roles cross join pg_database
           where rolname = any($1) and has_database_privilege(rolname, datname, 'CONNECT')
             and datname <> 'template0'
           order by 1, 2`,
          [[a.appRole, a.backupRole, a.ownerRole, a.database, b.appRole, b.backupRole]],
        ),
      ).toEqual([
        { role: a.appRole, database: a.database },
        { role: b.appRole, database: b.database },
        { role: a.backupRole, database: a.database },
        { role: b.backupRole, database: b.database },
      ]);
    });

    it("gains no power in the server, neither as the application nor as its tables' owner", async () => {
      const app = await login(a, "app");
      const [backend] = await query<{ pid: number }>(
        location,
        "select pid from pg_stat_activity where usename = $1 limit 1",
        [b.appRole],
      );
      const pid = backend?.pid ?? 0;
      expect(pid).toBeGreaterThan(0);
      const forbidden = [
        "create role intruder",
        "create database intruder",
        `alter role ${a.appRole} superuser`,
        `alter role ${a.appRole} createrole`,
        `alter role ${a.appRole} bypassrls`,
        `alter role ${a.appRole} connection limit -1`,
        `alter role ${b.appRole} password 'stolen'`,
        "set role admin",
        "set role fluxbilling_databases",
        "set role pg_read_all_data",
        `set role ${b.appRole}`,
        `set role ${b.ownerRole}`,
        `set role ${b.database}`,
        `set session authorization ${b.appRole}`,
        `grant ${b.database} to ${a.appRole}`,
        `grant ${a.database} to ${b.appRole}`,
        `alter database ${a.database} connection limit -1`,
        `alter database ${a.database} owner to ${a.ownerRole}`,
        `drop database ${b.database}`,
        "alter system set log_statement = 'all'",
        "select rolpassword from pg_authid",
        "select pg_read_file('/etc/passwd')",
        "select lo_import('/etc/passwd')",
        "copy (select 1) to program 'id'",
        "copy (select 1) to '/tmp/intruder'",
        "create extension dblink",
        "create extension file_fdw",
        "create schema intruder",
        "create table public.intruder (word text)",
        "create table app.intruder (word text)",
        "create function app.intruder() returns void language c as '/tmp/intruder.so', 'run'",
        `select pg_database_size('${b.database}')`,
        `select pg_terminate_backend(${pid})`,
        "checkpoint",
      ];
      const probes = Object.fromEntries([
        ...forbidden.map((statement) => [`app: ${statement}`, { ...app, statement }] as const),
        ...forbidden
          // Tables in its own schema are what an owner is for.
          .filter((statement) => !statement.startsWith("create table app."))
          .map(
            (statement) =>
              [`owner: ${statement}`, { ...app, role: a.ownerRole, statement }] as const,
          ),
      ]);
      const outcomes = await probeFrom(appOfA, probes);
      // insufficient_privilege.
      expect(Object.entries(outcomes).filter(([, outcome]) => outcome !== "42501")).toEqual([]);
      expect(Object.keys(outcomes)).toEqual(Object.keys(probes));
      expect(
        await probeFrom(appOfA, {
          own: {
            ...app,
            role: a.ownerRole,
            statement: "begin; create table app.own (word text); rollback",
          },
          query: {
            ...app,
            statement: `select string_agg(distinct query, ' ') from pg_stat_activity where usename = '${b.appRole}'`,
          },
          ownQuery: {
            ...app,
            statement: "select query from pg_stat_activity where pid = pg_backend_pid()",
          },
        }),
      ).toEqual({
        own: "done",
        query: "<insufficient privilege>",
        ownQuery: "select query from pg_stat_activity where pid = pg_backend_pid()",
      });
    });

    it("cannot let the other tenant in: a grant of its own has no effect", async () => {
      const app = await login(a, "app");
      const grant = `grant connect on database ${a.database} to ${b.appRole}`;
      const outcomes = await probeFrom(appOfA, {
        app: { ...app, statement: grant },
        owner: { ...app, role: a.ownerRole, statement: grant },
      });
      // PostgreSQL warns where some privilege is held without its grant option, and refuses where none is.
      expect(outcomes).toEqual({ app: "done", owner: "42501" });
      expect(
        await query(location, "select has_database_privilege($1, $2, 'CONNECT') as may", [
          b.appRole,
          a.database,
        ]),
      ).toEqual([{ may: false }]);
    });

    it("sees no row where it does not say whose, not even as the tables' owner", async () => {
      const path = "/records?subject=row-security";
      const added = await askAsOperator(a, { method: "POST", path, body: "{}" });
      expect(added.status).toBe(200);
      const app = await login(a, "app");
      const statement = "select count(*) > 0 from app.records";
      const as = (tenant: string): string => `set app.tenant = '${tenant}'; ${statement}`;
      expect(
        await probeFrom(appOfA, {
          "its own": { ...app, statement: as(a.name) },
          nobody: { ...app, statement },
          "the other tenant": { ...app, statement: as(b.name) },
          "its own, as owner": { ...app, role: a.ownerRole, statement: as(a.name) },
          "nobody, as owner": { ...app, role: a.ownerRole, statement },
          "nobody, with row security off": {
            ...app,
            role: a.ownerRole,
            statement: `set row_security = off; ${statement}`,
          },
        }),
      ).toEqual({
        "its own": "true",
        nobody: "false",
        "the other tenant": "false",
        "its own, as owner": "true",
        "nobody, as owner": "false",
        // insufficient_privilege: an error instead of rows.
        "nobody, with row security off": "42501",
      });
    });

    it("reads with its backup's login and writes nothing", async () => {
      const backup = await login(a, "backup");
      const outcomes = await probeFrom(appOfA, {
        insert: {
          ...backup,
          statement: "insert into app.records (tenant, subject, body) values ('x', 'x', '{}')",
        },
        delete: { ...backup, statement: "delete from app.settings" },
        table: { ...backup, statement: "create table app.intruder (word text)" },
        role: { ...backup, statement: "create role intruder" },
        owner: { ...backup, statement: `set role ${a.ownerRole}` },
      });
      expect(new Set(Object.values(outcomes))).toEqual(new Set(["42501"]));
    });
  });

  describe("with a token of the tenant's own service accounts", () => {
    it("reads no Secret of the other tenant, nor any other object", async () => {
      for (const account of ["app", "backup", "default"]) {
        const token = (
          await kubectl(location, "create", "token", account, ...inside(a), "--duration=10m")
        ).trim();
        const reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        const whoAmI = await askApi(token, reviews, {
          apiVersion: "authentication.k8s.io/v1",
          kind: "SelfSubjectReview",
        });
        expect(whoAmI.status).toBe(201);
        expect(whoAmI.body).toContain(`system:serviceaccount:${a.namespace}:${account}`);
        for (const path of [
          `/api/v1/namespaces/${b.namespace}/secrets`,
          `/api/v1/namespaces/${b.namespace}/secrets/keys-1-1`,
          `/api/v1/namespaces/${b.namespace}/pods`,
          `/api/v1/namespaces/${a.namespace}/secrets`,
          "/api/v1/secrets",
          "/api/v1/namespaces",
          "/api/v1/nodes",
          "/apis/networking.k8s.io/v1/networkpolicies",
        ]) {
          expect([path, (await askApi(token, path)).status]).toEqual([path, 403]);
        }
      }
    });

    it("has none of them in its pods", async () => {
      const pods = JSON.parse(
        await kubectl(location, "get", "pods", ...inside(a), "-o", "json"),
      ) as { items: { spec: { volumes?: { name: string; projected?: unknown }[] } }[] };
      expect(pods.items.length).toBeGreaterThan(0);
      for (const { spec } of pods.items) {
        expect((spec.volumes ?? []).filter(({ projected }) => projected !== undefined)).toEqual([]);
      }
    });
  });

  /** One of everything that a tenant's pod might want. */
  async function fewTargets(): Promise<
    Probes<"database" | "store" | "names" | "api" | "metadata" | "world" | "otherTenant">
  > {
    return {
      database: tcp(location.address, 5432),
      store: tcp(facts.machines.master.address, 22),
      names: udp(clusterOf(location).clusterDnsAddress, 53),
      api: tcp(location.address, 6443),
      metadata: tcp(METADATA, 80),
      world: tcp(OUTER_WORLD, 443),
      otherTenant: tcp(await addressOf(b), APP_PORT),
    };
  }

  async function serviceAddress(namespace: string, name: string): Promise<string> {
    return kubectl(
      location,
      ...["get", "service", name, "--namespace", namespace, "-o", "jsonpath={.spec.clusterIP}"],
    );
  }

  async function podAddress(namespace: string, ...selector: string[]): Promise<string> {
    return kubectl(
      location,
      ...["get", "pod", ...selector, "--namespace", namespace],
      ...["-o", "jsonpath={.status.podIP}{.items[0].status.podIP}"],
    );
  }

  async function addressOf(tenant: TestTenant): Promise<string> {
    return podAddress(tenant.namespace, "-l", `${COMPONENT_LABEL}=app`);
  }

  /** Asks the location's API server with a bearer token and nothing else. */
  async function askApi(
    token: string,
    path: string,
    body?: object,
  ): Promise<{ readonly status: number; readonly body: string }> {
    const { clusters } = parse(readFileSync(clusterOf(location).kubeconfigFile, "utf8")) as {
      clusters: { cluster: { server: string; "certificate-authority-data": string } }[];
    };
    const cluster = clusters[0]?.cluster;
    if (cluster === undefined) throw new Error("The kubeconfig must name a cluster");
    return new Promise((resolve, reject) => {
      const call = request(
        new URL(path, cluster.server),
        {
          method: body === undefined ? "GET" : "POST",
          ca: Buffer.from(cluster["certificate-authority-data"], "base64"),
          agent: new Agent(),
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
          response.once("end", () => {
            resolve({ status: response.statusCode ?? 0, body: text });
          });
        },
      );
      call.once("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
});

function tcp(host: string, port: number): Probe {
  return { kind: "tcp", host, port };
}

function udp(host: string, port: number): Probe {
  return { kind: "udp", host, port };
}

/** The names of probes that came to nothing. */
function refusedOf(outcomes: Outcomes<string>): string[] {
  const reached = reachedOf(outcomes);
  return Object.keys(outcomes).filter((name) => !reached.includes(name));
}

function reachedOf(outcomes: Outcomes<string>): string[] {
  return Object.entries(outcomes)
    .filter(([, outcome]) => outcome === "connected" || outcome === "answered")
    .map(([name]) => name);
}

/** A login of a tenant, in its own database, as its own pods have it. */
async function login(
  tenant: TestTenant,
  kind: "app" | "backup",
): Promise<Extract<Probe, { kind: "sql" }>> {
  const { postgres } = tenant.location;
  if (postgres === undefined) throw new Error("The location must have a PostgreSQL");
  const file = async (name: string): Promise<string> =>
    (await secretOf(tenant, `database-${kind}-seed-1`, name)).toString("utf8");
  return {
    kind: "sql",
    host: postgres.host,
    port: postgres.port,
    user: kind === "app" ? tenant.appRole : tenant.backupRole,
    password: await file("password"),
    database: tenant.database,
    ca: await file("ca.crt"),
  };
}

/** The content of every file below a folder. A Secret is mounted as links to links. */
function filesBelow(folder: string): Buffer[] {
  return readdirSync(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    if (name.startsWith("..")) return [];
    return statSync(path).isDirectory() ? filesBelow(path) : [readFileSync(path)];
  });
}

function clusterOf({ name, cluster }: MachineFacts): NonNullable<MachineFacts["cluster"]> {
  if (cluster === undefined) throw new Error(`Machine ${name} must have a cluster`);
  return cluster;
}

function inside({ namespace }: TestTenant): readonly string[] {
  return ["--namespace", namespace];
}

/** A pod that does nothing, such as a tenant's namespace lets in. */
async function sleepingPod(
  namespace: string,
  name: string,
  labels: { readonly [label: string]: string },
): Promise<object> {
  const { busybox } = await readImages();
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels },
    spec: {
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      securityContext: POD_SECURITY,
      containers: [
        {
          name,
          image: `${busybox.reference}@${busybox.digest}`,
          command: ["/bin/busybox", "sleep", "3600"],
          securityContext: CONTAINER_SECURITY,
        },
      ],
    },
  };
}

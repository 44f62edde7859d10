import { describe, expect, it } from "vitest";
import { shown } from "../../policies/rule.ts";
import type { Subject } from "../../policies/rule.ts";
import { RULES } from "../../policies/rules.ts";
import { assess } from "../../review/assess.ts";
import { drift } from "../../review/drift.ts";
import type { LiveMachine } from "../../review/drift.ts";
import { openFailures } from "../../review/finding.ts";
import { clusterScopes, NODES_TYPE, plain } from "../../review/live-cluster.ts";
import type { LiveObject } from "../../review/live-cluster.ts";
import { STORAGE_TYPE } from "../../review/live-host.ts";
import { SERVER_TYPE } from "../../review/live-server.ts";
import { LIVE_RULES } from "../../review/review.ts";
import { tenantsShareNoSecret } from "../../review/rules/tenants-share-no-secret.ts";
import { spoil, STACKS } from "../policies/mutants.ts";
import type { Judged } from "../support/judge.ts";
import { stored } from "./stored.ts";

const NOW = new Date("2026-03-02T00:00:00Z");

/** The objects of a tenant as a cluster would answer them. */
function objectsOf(stack: readonly Judged[]): readonly LiveObject[] {
  return stack
    .filter(({ type }) => type.startsWith("kubernetes:"))
    .map(({ type, props }) => {
      const [, version = "", kind = ""] = type.split(":");
      const object = JSON.parse(JSON.stringify(props)) as LiveObject & {
        stringData?: Record<string, string>;
      };
      return { ...object, apiVersion: version === "core/v1" ? "v1" : version, kind };
    });
}

const OBJECTS = objectsOf(STACKS.tenant);

const ROLES: readonly Subject[] = STACKS.tenant
  .filter(({ type }) => type.startsWith("postgresql:"))
  .map(({ type, name, props }) => ({
    ...{ type, name, urn: name, props },
    opts: { protect: false, ignoreChanges: [] },
  }));

const CONTEXT = {
  machine: "nl-1",
  imageRegistries: ["registry.test"],
  encryptedFolders: ["/var/lib/rancher"],
  database: { host: "10.77.0.21", port: 5432 },
};

function changed(
  kind: string,
  name: string,
  path: string,
  value: unknown,
  objects = OBJECTS,
): readonly LiveObject[] {
  return objects.map((object) =>
    object.kind === kind && object.metadata.name === name
      ? (spoil({ type: kind, name, props: object }, { [path]: value }).props as LiveObject)
      : object,
  );
}

function failures(objects: readonly LiveObject[]): readonly string[] {
  return clusterScopes(objects, CONTEXT).flatMap((scope) =>
    openFailures(
      assess(
        RULES,
        {
          ...scope,
          subjects: [
            ...scope.subjects,
            ...ROLES.map((role) => ({ ...role, provider: { name: "nl-1-server" } })),
          ],
        },
        [],
        NOW,
      ),
    ).map(({ rule, message }) => `${rule}: ${message}`),
  );
}

describe("a live object", () => {
  it("has the API's own words where the client reserves them", () => {
    expect(
      plain({
        kind: "NetworkPolicy",
        spec: { ingress: [{ _from: [{ podSelector: {} }], ports: [] }] },
      }),
    ).toEqual({
      kind: "NetworkPolicy",
      spec: { ingress: [{ from: [{ podSelector: {} }], ports: [] }] },
    });
  });
});

describe("a live tenant", () => {
  it("is judged by the same rules, and a good one passes them all", () => {
    expect(failures(OBJECTS)).toEqual([]);
  });

  it("may reach a directory where its namespace says that it has one", () => {
    const objects = objectsOf(STACKS["suspended tenant"]);
    expect(failures(objects)).toEqual([]);
    const unsaid = changed("Namespace", "tenant-acme", "metadata.annotations", {}, objects);
    expect(failures(unsaid)).toEqual([
      expect.stringContaining("must use TCP/443, TCP/587, got TCP/443, TCP/587, TCP/636."),
    ]);
  });

  it("may be reached over MQTT and replay where its namespace says that it does", () => {
    const objects = objectsOf(STACKS["full tenant"]);
    expect(failures(objects)).toEqual([]);
    const said = (path: string): string =>
      failures(changed("Namespace", "tenant-acme", path, undefined, objects)).join("\n");
    const annotations = "metadata.annotations.fluxbilling\\.dev/";
    expect(said(`${annotations}mqtt`)).toContain(
      "tenant-acme/mqtt: a TCP route must be of a tenant that speaks MQTT",
    );
    expect(said(`${annotations}replay`)).toContain(
      "tenant-acme/plan: spec.hard.pods must be 3, got 4.",
    );
  });

  it("is refused a route over TCP that was opened or led elsewhere by hand", () => {
    const objects = objectsOf(STACKS["full tenant"]);
    const said = (path: string, value: unknown): readonly string[] =>
      failures(changed("IngressRouteTCP", "mqtt", path, value, objects));
    expect(said("spec.tls.passthrough", true)).toEqual([
      expect.stringContaining("tenant-acme/mqtt: tls.passthrough must be false, got true."),
    ]);
    expect(said("spec.routes.0.match", "HostSNI(`*`)")).toEqual([
      expect.stringContaining("match must be one host that begins with acme., got HostSNI(`*`)."),
    ]);
  });

  it("is refused what was made by hand", () => {
    const pod: LiveObject = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "shell", namespace: "tenant-acme" },
      spec: { hostNetwork: true, containers: [{ name: "shell", image: "busybox" }] },
    };
    const said = failures([...OBJECTS, pod]).join("\n");
    expect(said).toContain("tenant-acme/shell: hostNetwork must be false, got true.");
    expect(said).toContain("tenant-acme/shell: the image of container shell must be <registry>");
    expect(said).toContain(
      "tenant-acme/shell: the stack of tenant acme must hold only a tenant's types",
    );
  });

  it("is refused a default deny that was removed, and a quota that was raised", () => {
    expect(failures(OBJECTS.filter(({ metadata }) => metadata.name !== "default-deny"))).toEqual([
      expect.stringMatching(
        /^namespace-has-default-deny: tenant-acme: namespace tenant-acme must have/,
      ),
    ]);
    expect(failures(changed("ResourceQuota", "plan", "spec.hard.pods", "100"))).toEqual([
      expect.stringMatching(
        /^tenant-fits-its-plan: tenant-acme\/plan: spec.hard.pods must be 3, got 100\./,
      ),
    ]);
  });
});

describe("the Secrets of all clusters", () => {
  const secret = (namespace: string, data: Readonly<Record<string, string>>): Subject => ({
    type: "kubernetes:core/v1:Secret",
    name: `${namespace}/keys`,
    urn: namespace,
    props: { metadata: { namespace, name: "keys" }, data },
    provider: { name: "nl-1-cluster" },
    opts: { protect: false, ignoreChanges: [] },
  });
  const said = (...subjects: readonly Subject[]): readonly string[] => {
    const messages: string[] = [];
    tenantsShareNoSecret.judge(subjects, (message) => messages.push(message));
    return messages;
  };

  it("may share certificates, names and counters, and each its own values", () => {
    const names = { "mail-user": "5", "provider-work-id": "6" };
    const shared = { "ca.crt": "1", active: "2", ...names };
    expect(
      said(
        secret("tenant-a", { ...shared, key: "3", other: "3" }),
        secret("tenant-b", { ...shared, key: "4" }),
      ),
    ).toEqual([]);
  });

  it("are refused where two namespaces hold the same value", () => {
    expect(said(secret("tenant-a", { key: "3" }), secret("tenant-b", { session: "3" }))).toEqual([
      expect.stringContaining(
        "tenant-a/keys: a secret must be one namespace's own, got one that nl-1-cluster/tenant-b session has too.",
      ),
      expect.stringContaining("tenant-b/keys: "),
    ]);
  });
});

describe("drift", () => {
  const stack = stored("local.acme");
  const at = (live: Partial<LiveMachine>): readonly string[] =>
    openFailures(
      drift([stack], [{ machine: "nl-1", objects: OBJECTS, server: ROLES, ...live }]),
    ).map(({ message }) => message.split(". ")[0] ?? "");

  it("is none where all is as recorded, whatever words the cluster uses", () => {
    expect(at({})).toEqual([]);
    const objects = changed(
      "Deployment",
      "app",
      "spec.template.spec.containers.0.resources.limits.cpu",
      "0.25",
    );
    expect(at({ objects })).toEqual([]);
  });

  it.each([
    ["ResourceQuota", "plan", "spec.hard.pods", "9", "spec.hard.pods must be 3, got 9"],
    ["ResourceQuota", "plan", "spec.hard.gpus", "9", "spec.hard.gpus must not be there, got it"],
    ["NetworkPolicy", "default-deny", "spec.egress", [{}], "spec.egress must not be there, got it"],
    [
      "NetworkPolicy",
      "allow-app",
      "spec.egress.1.ports.0.port",
      22,
      "spec.egress.1.ports.0.port must be 5432, got 22",
    ],
    ["Deployment", "app", "spec.replicas", 3, "spec.replicas must be 1, got 3"],
    [
      "NetworkPolicy",
      "default-deny",
      "spec.podSelector",
      { matchLabels: { a: "b" } },
      "spec.podSelector.matchLabels must not be there, got it",
    ],
  ])("names a %s %s whose %s was changed", (kind, name, path, value, fault) => {
    expect(at({ objects: changed(kind, name, path, value) })).toEqual([
      expect.stringMatching(new RegExp(`: ${fault.replaceAll(".", "\\.")}$`)),
    ]);
  });

  it("names a route over TCP that was changed, made or taken away by hand", () => {
    const full = stored("local.acme", STACKS["full tenant"]);
    const objects = objectsOf(STACKS["full tenant"]);
    const differing = (there: readonly LiveObject[]): readonly string[] =>
      openFailures(drift([full], [{ machine: "nl-1", objects: there, server: ROLES }])).map(
        ({ message }) => message.split(". ")[0] ?? "",
      );
    expect(differing(objects)).toEqual([]);
    const passing = changed("IngressRouteTCP", "mqtt", "spec.tls.passthrough", true, objects);
    expect(differing(passing)).toEqual([
      expect.stringMatching(/acme-ingress-mqtt: spec\.tls\.passthrough must not be there, got it$/),
    ]);
    expect(differing(objects.filter(({ kind }) => kind !== "IngressRouteTCP"))).toEqual([
      expect.stringMatching(/acme-ingress-mqtt: must be there, got nothing$/),
    ]);
    const route = objects.filter(({ kind }) => kind === "IngressRouteTCP");
    expect(at({ objects: [...OBJECTS, ...route] })).toEqual([
      "kubernetes:traefik.io/v1alpha1:IngressRouteTCP tenant-acme/mqtt: must be recorded in a stack, got made by hand",
    ]);
  });

  it("names what is gone and what was made by hand", () => {
    expect(at({ objects: OBJECTS.filter(({ kind }) => kind !== "Service") })).toEqual([
      "kubernetes:core/v1:Service acme-app-service: must be there, got nothing",
    ]);
    const extra: LiveObject = {
      apiVersion: "traefik.io/v1alpha1",
      kind: "TLSOption",
      metadata: { name: "default", namespace: "tenant-acme" },
    };
    expect(at({ objects: [...OBJECTS, extra] })).toEqual([
      "kubernetes:traefik.io/v1alpha1:TLSOption tenant-acme/default: must be recorded in a stack, got made by hand",
    ]);
  });

  it("names a grant that was added and a role that was raised", () => {
    const grant: Subject = {
      type: "postgresql:index/grant:Grant",
      name: "app_other on database tenant_acme",
      urn: "",
      props: {
        database: "tenant_acme",
        role: "app_other",
        objectType: "database",
        privileges: ["CONNECT"],
      },
      opts: { protect: false, ignoreChanges: [] },
    };
    expect(at({ server: [...ROLES, grant] })).toEqual([
      "postgresql:index/grant:Grant app_other on database tenant_acme: must be recorded in a stack, got made by hand",
    ]);
    const server = ROLES.map((role) =>
      role.name === "acme-database-app"
        ? { ...role, props: { ...(role.props as object), connectionLimit: -1 } }
        : role,
    );
    expect(at({ server })).toEqual([
      "postgresql:index/role:Role acme-database-app: connectionLimit must be 10, got -1",
    ]);
  });
});

describe("a live server", () => {
  const GOOD_HBA = [
    {
      line_number: 1,
      type: "local",
      database: ["all"],
      user_name: ["postgres"],
      auth_method: "peer",
    },
    {
      line_number: 2,
      type: "hostssl",
      database: ["all"],
      user_name: ["admin"],
      auth_method: "scram-sha-256",
    },
    {
      line_number: 3,
      type: "hostssl",
      database: ["samerole"],
      user_name: ["all"],
      auth_method: "scram-sha-256",
    },
    {
      line_number: 4,
      type: "hostssl",
      database: ["replication"],
      user_name: ["fluxbilling_replica"],
      auth_method: "scram-sha-256",
    },
    { line_number: 5, type: "host", database: ["all"], user_name: ["all"], auth_method: "reject" },
  ];
  const GOOD_SETTINGS = {
    ssl: "on",
    ssl_min_protocol_version: "TLSv1.3",
    password_encryption: "scram-sha-256",
    data_directory: "/var/lib/postgresql/15/main",
  };
  const GOOD_STORAGE = {
    folders: ["/var/lib/postgresql", "/var/lib/rancher"],
    volumes: { files: "/var/lib/rancher/k3s/storage/files" },
    ciphers: { "/var/lib/postgresql": "dm-crypt AES-256-XTS" },
  };

  function said(
    hba: readonly object[],
    settings: object = GOOD_SETTINGS,
    storage: object = GOOD_STORAGE,
    nodes: object = { "nl-1": "nothing" },
  ): readonly string[] {
    const live = (type: string, props: object): Subject => ({
      ...{ type, name: "nl-1", urn: "nl-1", props },
      opts: { protect: false, ignoreChanges: [] },
    });
    const subjects = [
      live(SERVER_TYPE, { hba, settings }),
      live(STORAGE_TYPE, storage),
      live(NODES_TYPE, { nodes }),
    ];
    return LIVE_RULES.flatMap((rule) => {
      const messages: string[] = [];
      if (rule.kind === "stack") {
        rule.judge(subjects, (message) =>
          messages.push(message.slice(0, -rule.remediation.length - 1)),
        );
      }
      return messages;
    });
  }

  it("passes as the platform sets it up", () => {
    expect(said(GOOD_HBA)).toEqual([]);
  });

  it.each([
    [{ type: "host" }, "line 9 must be hostssl, got host."],
    [{ auth_method: "trust" }, "line 9 must ask for scram-sha-256, got trust."],
    [{ database: ["all"] }, "line 9 must let all into samerole alone, got all."],
    [
      { database: ["tenant_acme"], user_name: ["app_other"] },
      "line 9 must let app_other into samerole alone, got tenant_acme.",
    ],
    [
      { database: ["all"], user_name: ["+staff"] },
      "line 9 must let +staff into samerole alone, got all.",
    ],
    [
      { type: "local", auth_method: "trust" },
      "line 9 must let the machine's own users in by peer, got trust.",
    ],
  ])("refuses a further line with %j", (spoilt, message) => {
    const line = {
      line_number: 9,
      type: "hostssl",
      database: ["samerole"],
      user_name: ["all"],
      auth_method: "scram-sha-256",
    };
    expect(said([{ ...line, ...spoilt }, ...GOOD_HBA])).toEqual([`nl-1: ${message}`]);
  });

  it.each(Object.keys(GOOD_SETTINGS))("refuses another %s", (setting) => {
    expect(said(GOOD_HBA, { ...GOOD_SETTINGS, [setting]: "off" })).toEqual([
      expect.stringMatching(/must (be|lie in) /),
    ]);
    expect(said(GOOD_HBA, { ...GOOD_SETTINGS, [setting]: undefined })).toEqual([
      expect.stringContaining(`got ${shown(undefined)}.`),
    ]);
  });

  it.each([
    [{ refusal: "in clear." }, "its storage must be proved encrypted, got: in clear."],
    [
      { volumes: { files: "/srv/files" } },
      "volume files must lie in a folder that is proved encrypted, /var/lib/postgresql, /var/lib/rancher, got /srv/files.",
    ],
    [
      { folders: ["/var/lib/rancher"] },
      "its databases must lie in a folder that is proved encrypted, /var/lib/rancher, got /var/lib/postgresql/15/main.",
    ],
  ])("refuses storage with %j", (spoilt, message) => {
    expect(said(GOOD_HBA, GOOD_SETTINGS, { ...GOOD_STORAGE, ...spoilt })).toEqual([
      `nl-1: ${message}`,
    ]);
  });

  const among = (nodes: Readonly<Record<string, string>>): readonly string[] =>
    said(GOOD_HBA, GOOD_SETTINGS, GOOD_STORAGE, nodes);

  it("may have several nodes where each encrypts what it sends, and one by itself that sends nothing", () => {
    expect(among({ "nl-1": "wireguard", "nl-1-b": "wireguard" })).toEqual([]);
    expect(among({ "nl-1": "vxlan" })).toEqual([]);
  });

  it.each(["vxlan", "host-gw", "extension", "nothing"])(
    "refuses a node beside others that sends by %s",
    (backend) => {
      expect(among({ "nl-1": "wireguard", "nl-1-b": backend })).toEqual([
        `nl-1: node nl-1-b must send to the others by wireguard, got ${backend}.`,
      ]);
    },
  );
});

import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { scramSalt, scramVerifier } from "../../model/scram.ts";
import { at, inputOf, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { fleetResources, TEST_AUTHORITY } from "../support/good.ts";

const COMMAND = "command:remote:Command";

describe("the fleet's stack", () => {
  let resources: readonly Registered[];
  beforeAll(async () => {
    resources = await fleetResources();
  });

  it("has one TLS floor per cluster, the default in the cluster's own namespace", () => {
    const options = resources.filter(
      ({ type }) => type === "kubernetes:traefik.io/v1alpha1:TLSOption",
    );
    expect(
      options
        .map(({ inputs, provider }) => ({
          cluster: provider.split("::").at(-2),
          namespace: at(inputs, "metadata.namespace"),
          name: at(inputs, "metadata.name"),
          spec: at(inputs, "spec"),
        }))
        .toSorted((one, other) => (one.cluster ?? "").localeCompare(other.cluster ?? "")),
    ).toEqual(
      ["fi-1-cluster", "master-cluster", "nl-1-cluster"].map((cluster) => ({
        cluster,
        namespace: "kube-system",
        name: "default",
        spec: { minVersion: "VersionTLS13", sniStrict: true },
      })),
    );
  });

  it("has a certificate for the panels on the master and for tenants on the locations", () => {
    const requests = inputsOf(resources, "tls:index/certRequest:CertRequest");
    expect(
      Object.fromEntries(
        Object.entries(requests).map(([name, request]) => [name, at(request, "dnsNames")]),
      ),
    ).toEqual({
      "master-edge-certificate-request": ["*.panels.test"],
      "nl-1-edge-certificate-request": ["*.tenants.test"],
      "fi-1-edge-certificate-request": ["*.tenants.test"],
    });
  });

  it("shuts the shipped databases of every server to everyone without a grant", () => {
    const grants = resources
      .filter(({ type }) => type === "postgresql:index/grant:Grant")
      .filter(({ inputs }) => ["postgres", "template1"].includes(String(at(inputs, "database"))));
    expect(
      grants
        .map(({ inputs, provider }) => JSON.stringify([provider.split("::").at(-2), inputs]))
        .toSorted(),
    ).toEqual(
      ["fi-1", "master", "nl-1"].flatMap((machine) =>
        ["postgres", "template1"].map((database) =>
          JSON.stringify([
            `${machine}-server`,
            { database, objectType: "database", privileges: [], role: "public" },
          ]),
        ),
      ),
    );
  });

  it("trusts on the backup store only keys that the authority certified, and nothing else of them", () => {
    const create = inputOf(resources, COMMAND, "store-master-host", "create");
    expect(create).toBe(
      [
        "set -eu",
        "if ! id fluxbackup >/dev/null 2>&1; then",
        "  useradd --system --user-group --no-create-home --home-dir /var/lib/fluxbilling/fluxbackup --shell /bin/sh fluxbackup",
        "fi",
        "usermod --password '*' fluxbackup",
        "install -d -m 0755 -o root -g root /usr/local/lib/fluxbilling",
        "install -d -m 0755 -o root -g root /var/lib/fluxbilling/fluxbackup /var/lib/fluxbilling/fluxbackup/.ssh",
        "install -d -m 0700 -o fluxbackup -g fluxbackup /var/lib/fluxbilling/backups",
        `printf '%s\\n' 'cert-authority,restrict ${TEST_AUTHORITY.publicKey}' > /var/lib/fluxbilling/fluxbackup/.ssh/authorized_keys.new`,
        "chmod 0644 /var/lib/fluxbilling/fluxbackup/.ssh/authorized_keys.new",
        "mv -f /var/lib/fluxbilling/fluxbackup/.ssh/authorized_keys.new /var/lib/fluxbilling/fluxbackup/.ssh/authorized_keys",
      ].join("\n"),
    );
  });

  it("installs the receiver that it was given, by its checksum", () => {
    const create = inputOf(resources, COMMAND, "store-master-receiver-install", "create");
    const sha256 = createHash("sha256").update("public receive").digest("hex");
    expect(create).toContain(
      `echo '${sha256}  /usr/local/lib/fluxbilling/receive' | sha256sum --check --status`,
    );
  });

  it("hands no host's SSH key to anything but the connection, and that is secret", () => {
    const holders = resources.filter(({ inputs }) =>
      JSON.stringify(inputs).includes('secret of {\\"file\\":\\"operator\\"}'),
    );
    expect(new Set(holders.flatMap(({ secretInputs }) => secretInputs))).toEqual(
      new Set(["connection"]),
    );
    expect(holders.every(({ type }) => type.startsWith("command:remote:"))).toBe(true);
  });

  it("shuts the control plane's namespace both ways", () => {
    const policies = inputsOf(resources, "kubernetes:networking.k8s.io/v1:NetworkPolicy");
    expect(policies["master-default-deny"]).toMatchObject({
      metadata: { name: "default-deny", namespace: "fluxbilling-control-plane" },
      spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
    });
  });

  it("sends whoever comes without TLS to HTTPS and serves nothing there", () => {
    const type = "kubernetes:traefik.io/v1alpha1:IngressRoute";
    expect(inputOf(resources, type, "nl-1-edge-plain", "spec")).toEqual({
      entryPoints: ["web"],
      routes: [
        {
          kind: "Rule",
          match: "PathPrefix(`/`)",
          priority: 1,
          middlewares: [{ name: "redirect-to-https" }],
          services: [{ kind: "TraefikService", name: "noop@internal" }],
        },
      ],
    });
  });
});

describe("Standby", () => {
  it("replicates as a login that may do nothing else", async () => {
    const roles = inputsOf(await fleetResources(), "postgresql:index/role:Role");
    expect(roles["standby-replica"]).toEqual({
      name: "fluxbilling_replica",
      login: true,
      replication: true,
      connectionLimit: 3,
      password: scramVerifier("password-of-standby-password", scramSalt("fluxbilling_replica")),
    });
  });

  it("is let in from its own address alone, over TLS", async () => {
    const create = inputOf(await fleetResources(), COMMAND, "standby-allowed", "create");
    expect(create).toContain(
      "'hostssl replication fluxbilling_replica 10.77.0.11/32 scram-sha-256'",
    );
  });

  it("gets the password and the authority on stdin, in no command", async () => {
    const all = await fleetResources();
    expect(inputOf(all, COMMAND, "standby-copy", "stdin")).toBe(
      "password-of-standby-password\npublic ca.crt",
    );
    expect(
      JSON.stringify(Object.values(inputsOf(all, COMMAND)).map((inputs) => at(inputs, "create"))),
    ).not.toContain("password-of-standby-password");
  });

  it("proves the master and speaks TLS 1.3", async () => {
    const create = inputOf(await fleetResources(), COMMAND, "standby-copy", "create");
    expect(create).toContain(
      "host=10.77.0.10 port=5432 user=fluxbilling_replica sslmode=verify-full sslrootcert=/var/lib/postgresql/fluxbilling/master.crt ssl_min_protocol_version=TLSv1.3 ",
    );
  });

  it("touches no data folder that is not its copy", async () => {
    const create = inputOf(await fleetResources(), COMMAND, "standby-copy", "create");
    expect(create).toContain('if [ -e "$data" ] && [ ! -e "$data/standby.signal" ]; then');
  });
});

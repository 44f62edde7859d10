import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { scramSalt, scramVerifier } from "../../model/scram.ts";
import { parseFleet } from "../../model/settings.ts";
import { deployFleet } from "../../stacks/fleet.ts";
import { at, construct, inputOf, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { fleetResources, goodFleetInput, TEST_AUTHORITY, TEST_SECRETS } from "../support/good.ts";

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

  it("answers 404 with the security headers for a host that nothing serves", () => {
    const middleware = "kubernetes:traefik.io/v1alpha1:Middleware";
    const route = "kubernetes:traefik.io/v1alpha1:IngressRoute";
    for (const cluster of ["master", "nl-1", "fi-1"]) {
      expect(inputOf(resources, middleware, `${cluster}-edge-nothing`, "spec")).toEqual({
        ipAllowList: { sourceRange: ["255.255.255.255/32"], rejectStatusCode: 404 },
      });
      expect(inputOf(resources, route, `${cluster}-edge-unknown`, "spec")).toEqual({
        entryPoints: ["websecure"],
        routes: [
          {
            kind: "Rule",
            match: "PathPrefix(`/`)",
            priority: 1,
            middlewares: [{ name: "security-headers" }, { name: "unknown-host" }],
            services: [{ kind: "TraefikService", name: "noop@internal" }],
          },
        ],
        tls: {},
      });
    }
  });
});

describe("Standby", () => {
  it("replicates as a login that may do nothing else", async () => {
    const roles = inputsOf(await fleetResources(), "postgresql:index/role:Role");
    expect(roles["standby-replica"]).toEqual({
      name: "fluxbilling_replica",
      login: true,
      replication: true,
      connectionLimit: 4,
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
    const create = inputOf(await fleetResources(), COMMAND, "standby-program", "create");
    expect(create).toContain(
      [
        "#!/bin/sh",
        "MASTER_ADDRESS=10.77.0.10",
        "MASTER_PORT=5432",
        "MASTER_ADMIN=admin",
        "REPLICA_ROLE=fluxbilling_replica",
        "SLOT=fluxbilling_standby",
        "",
      ].join("\n"),
    );
    expect(create).toContain(
      'master="host=$MASTER_ADDRESS port=$MASTER_PORT user=$REPLICA_ROLE sslmode=verify-full sslrootcert=$home/master.crt ssl_min_protocol_version=TLSv1.3 ',
    );
  });

  it("touches no data folder that is not its copy", async () => {
    const create = inputOf(await fleetResources(), COMMAND, "standby-program", "create");
    expect(create).toContain('if [ -e "$data" ] && [ ! -e "$data/standby.signal" ]; then');
  });
});

describe("StoreMirror", () => {
  const JOB = "kubernetes:batch/v1:CronJob";

  it("reads the store and adds to the copy, by one key that opens nothing else", async () => {
    const all = await fleetResources();
    const certificates = inputOf(
      all,
      "kubernetes:core/v1:Secret",
      "mirror-master-secret",
      "stringData",
    );
    const allowed = ["source-cert\\.pub", "target-cert\\.pub"].map((name) =>
      certificateText(at(certificates, name)),
    );
    expect(allowed).toEqual([
      {
        command:
          "/usr/local/lib/fluxbilling/receive -root /var/lib/fluxbilling/backups -mirror source",
        from: "10.77.0.10/32,10.42.0.0/16",
      },
      {
        command:
          "/usr/local/lib/fluxbilling/receive -root /var/lib/fluxbilling/mirror/master -mirror target",
        from: "10.77.0.10/32",
      },
    ]);
  });

  it("pins both hosts and reaches nothing but their SSH", async () => {
    const all = await fleetResources();
    const environment = inputOf(
      all,
      JOB,
      "mirror-master-job",
      "spec.jobTemplate.spec.template.spec.containers.0.env",
    ) as { name: string; value: string }[];
    const value = (name: string): string | undefined =>
      environment.find((variable) => variable.name === name)?.value;
    for (const end of ["SOURCE", "TARGET"]) {
      expect(value(`${end}_HOST_KEY`)).toMatch(/^ssh-ed25519 /);
    }
    expect(
      inputOf(
        all,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "mirror-master-network",
        "spec",
      ),
    ).toMatchObject({
      policyTypes: ["Ingress", "Egress"],
      egress: ["10.77.0.10/32", "10.77.0.11/32"].map((cidr) => ({
        to: [{ ipBlock: { cidr } }],
        ports: [{ protocol: "TCP", port: 22 }],
      })),
    });
  });

  it("copies no store of another zone to the standby", async () => {
    const input = goodFleetInput();
    const stores = input["backupStores"] as Record<string, object>;
    stores["us"] = { ...stores["master"], zone: "us", address: "10.77.0.99" };
    const all = await construct(() => {
      deployFleet(parseFleet(input, "the test"), TEST_SECRETS);
    });
    expect(Object.keys(inputsOf(all, JOB))).toEqual(["mirror-master-job", "registry-mirror-job"]);
    expect(
      all
        .filter(({ type }) => type === "fluxbilling:fleet:BackupStore")
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(["mirror-master-target", "registry-mirror-target", "store-master", "store-us"]);
  });
});

describe("RegistryMirror", () => {
  it("reads the registry's volume, and adds to its copy on the standby by a key that opens nothing else", async () => {
    const all = await fleetResources();
    const files = inputOf(
      all,
      "kubernetes:core/v1:Secret",
      "registry-mirror-secret",
      "stringData",
    ) as object;
    expect(Object.keys(files).toSorted()).toEqual(["id_ed25519", "target-cert.pub"]);
    expect(certificateText(at(files, "target-cert\\.pub"))).toEqual({
      command:
        "/usr/local/lib/fluxbilling/receive -root /var/lib/fluxbilling/registry -mirror images",
      from: "10.77.0.10/32",
    });
    const pod = inputOf(
      all,
      "kubernetes:batch/v1:CronJob",
      "registry-mirror-job",
      "spec.jobTemplate.spec.template.spec",
    );
    expect(at(pod, "volumes.1")).toEqual({
      name: "mirrored",
      persistentVolumeClaim: { claimName: "registry", readOnly: true },
    });
    expect(at(pod, "containers.0.volumeMounts.1.readOnly")).toBe(true);
    expect(
      inputOf(
        all,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "registry-mirror-network",
        "spec.egress",
      ),
    ).toEqual([
      {
        to: [{ ipBlock: { cidr: "10.77.0.11/32" } }],
        ports: [{ protocol: "TCP", port: 22 }],
      },
    ]);
  });
});

/** What an OpenSSH certificate allows. */
function certificateText(certificate: unknown): { command: string; from: string } {
  const blob = Buffer.from(String(certificate).split(" ")[1] ?? "", "base64").toString("latin1");
  const option = (name: string): string => {
    const start = blob.indexOf(name) + name.length;
    const length = Buffer.from(blob.slice(start + 4, start + 8), "latin1").readUInt32BE();
    return blob.slice(start + 8, start + 8 + length);
  };
  return { command: option("force-command"), from: option("source-address") };
}

describe("ControlPlaneIngress", () => {
  const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";

  it("serves panels and registry over TLS only, with the headers and the rate limit", async () => {
    const ingresses = inputsOf(await fleetResources(), INGRESS);
    expect(
      Object.values(ingresses).map((ingress) => [
        at(ingress, "spec.rules.0.host"),
        at(ingress, "spec.tls.0.hosts"),
        at(
          ingress,
          "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.entrypoints",
        ),
        at(
          ingress,
          "metadata.annotations.traefik\\.ingress\\.kubernetes\\.io/router\\.middlewares",
        ),
      ]),
    ).toEqual(
      ["operator.panels.test", "account.panels.test", "registry.panels.test"].map((host) => [
        host,
        [host],
        "websecure",
        "fluxbilling-control-plane-rate-limit@kubernetescrd,fluxbilling-control-plane-security-headers@kubernetescrd",
      ]),
    );
  });

  it("gets its certificates by ACME where the master does", async () => {
    const input = goodFleetInput();
    Object.assign(input["master"] as object, {
      certificates: { issuer: "acme", resolver: "letsencrypt" },
    });
    const all = await construct(() => {
      deployFleet(parseFleet(input, "the test"), TEST_SECRETS);
    });
    const annotations = at(
      inputsOf(all, INGRESS)["master-ingress-operator-ingress"],
      "metadata.annotations",
    );
    expect(annotations).toMatchObject({
      "traefik.ingress.kubernetes.io/router.tls.certresolver": "letsencrypt",
      "traefik.ingress.kubernetes.io/router.tls.domains.0.main": "*.panels.test",
    });
  });

  it("lets the ingress alone reach a panel or the registry, and neither reach anything", async () => {
    const policies = inputsOf(
      await fleetResources(),
      "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    );
    for (const component of ["panel", "registry"]) {
      expect(at(policies[`master-ingress-allow-${component}`], "spec")).toEqual({
        podSelector: { matchLabels: { "app.kubernetes.io/component": component } },
        policyTypes: ["Ingress", "Egress"],
        ingress: [
          {
            from: [
              {
                namespaceSelector: {
                  matchLabels: { "kubernetes.io/metadata.name": "kube-system" },
                },
                podSelector: { matchLabels: { "app.kubernetes.io/name": "traefik" } },
              },
            ],
            ports: [{ protocol: "TCP", port: 8080 }],
          },
        ],
      });
    }
  });
});

describe("Registry", () => {
  it("knows its password by hash, and keeps it in clear in one Secret", async () => {
    const all = await fleetResources();
    const holders = all.filter(({ inputs }) =>
      JSON.stringify(inputs).includes("password-of-master-registry-password"),
    );
    expect(holders.map(({ name, secretInputs }) => [name, secretInputs])).toEqual([
      ["master-registry-login", ["stringData"]],
    ]);
    expect(
      inputOf(all, "kubernetes:core/v1:Secret", "master-registry-htpasswd", "stringData.htpasswd"),
    ).toBe("fleet:bcrypt-of-master-registry-password\n");
  });

  it("asks everyone for it and deletes no image", async () => {
    const text = inputOf(
      await fleetResources(),
      "kubernetes:core/v1:ConfigMap",
      "master-registry-configuration",
      "data.config\\.yml",
    );
    expect(JSON.parse(String(text))).toMatchObject({
      auth: { htpasswd: { path: "/run/secrets/registry/htpasswd" } },
      storage: { delete: { enabled: false } },
    });
  });
});

describe("SystemNetwork", () => {
  it("shuts the own namespace of every cluster, after its needs are open", async () => {
    const policies = (await fleetResources()).filter(
      ({ type, inputs }) =>
        type === "kubernetes:networking.k8s.io/v1:NetworkPolicy" &&
        at(inputs, "metadata.namespace") === "kube-system",
    );
    const names = [
      "allow-dns",
      "allow-ingress",
      "allow-installer",
      "allow-load-balancer",
      "allow-metrics",
      "allow-volumes",
      "default-deny",
    ];
    expect(policies.map(({ name }) => name).toSorted()).toEqual(
      ["fi-1", "master", "nl-1"].flatMap((machine) =>
        names.map((name) => `${machine}-system-${name}`),
      ),
    );
  });

  it.each([
    [
      "nl-1",
      [
        [
          { matchExpressions: [{ key: "fluxbilling.dev/tenant", operator: "Exists" }] },
          { "app.kubernetes.io/component": "app" },
          [8080, 1883],
        ],
        [
          { matchLabels: { "kubernetes.io/metadata.name": "fluxbilling-edge" } },
          {
            "app.kubernetes.io/name": "suspended-page",
            "app.kubernetes.io/component": "suspended-page",
          },
          [8080],
        ],
      ],
    ],
    [
      "master",
      ["panel", "registry"].map((component) => [
        { matchLabels: { "kubernetes.io/metadata.name": "fluxbilling-control-plane" } },
        { "app.kubernetes.io/component": component },
        [8080],
      ]),
    ],
  ])(
    "leads the ingress of %s to what it serves and to no authority outside",
    async (machine, served) => {
      const egress = inputOf(
        await fleetResources(),
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        `${machine}-system-allow-ingress`,
        "spec.egress",
      ) as unknown[];
      expect(egress.slice(2)).toEqual(
        served.map(([namespaceSelector, matchLabels, ports]) => ({
          to: [{ namespaceSelector, podSelector: { matchLabels } }],
          ports: (ports as number[]).map((port) => ({ protocol: "TCP", port })),
        })),
      );
      expect(JSON.stringify(egress)).not.toContain("0.0.0.0/0");
    },
  );

  it.each([
    ["nl-1", [8000, 8443, 8883], [80, 443, 8883]],
    ["master", [8000, 8443], [80, 443]],
  ])("lets MQTT over TLS in where tenants are alone: %s", async (machine, pods, node) => {
    const resources = await fleetResources();
    const ports = (policy: string, path: string): unknown =>
      (
        inputOf(
          resources,
          "kubernetes:networking.k8s.io/v1:NetworkPolicy",
          `${machine}-system-${policy}`,
          path,
        ) as { port: number }[]
      ).map(({ port }) => port);
    expect(ports("allow-ingress", "spec.ingress.0.ports")).toEqual(pods);
    expect(ports("allow-load-balancer", "spec.ingress.0.ports")).toEqual(node);
    expect(ports("allow-load-balancer", "spec.egress.0.ports")).toEqual(pods);
  });
});

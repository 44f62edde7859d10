import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { scramSalt, scramVerifier } from "../../model/scram.ts";
import { hostLocation, parseHost } from "../../model/settings.ts";
import { deployHost } from "../../stacks/host.ts";
import { construct, inputOf, inputsOf } from "../support/construct.ts";
import type { Registered } from "../support/construct.ts";
import { goodFleet, goodHostInput, hostResources, TEST_SECRETS } from "../support/good.ts";

const COMMAND = "command:remote:Command";
const PASSWORD = 'secret of {"file":"nl-1.password"}';

describe("the stack of a host", () => {
  let resources: readonly Registered[];
  beforeAll(async () => {
    resources = await hostResources();
  });

  it("has the host's proof of encryption before anything is brought to it", () => {
    const commands = resources.filter(({ type }) => type === COMMAND);
    expect(Object.fromEntries(commands.map(({ name, dependsOn }) => [name, dependsOn]))).toEqual({
      "nl-1-storage-check": [],
      "nl-1-k3s-program": ["nl-1-storage"],
      "nl-1-k3s": ["nl-1-k3s-program"],
      "nl-1-postgresql-program": ["nl-1-storage"],
      "nl-1-postgresql": ["nl-1-postgresql-program"],
      "nl-1-kubeconfig": ["nl-1-k3s"],
    });
  });

  it("hands PostgreSQL a verifier, its certificate and its key over standard input, as a secret", () => {
    const verifier = scramVerifier(PASSWORD, scramSalt("admin"));
    expect(inputOf(resources, COMMAND, "nl-1-postgresql", "stdin")).toBe(
      `${verifier}\ncertificate-of-nl-1-server-certificateprivate-pem-of-nl-1-server-key`,
    );
    expect(secretsOf("nl-1-postgresql")).toContain("stdin");
  });

  it("has no secret in a command, and the password nowhere", () => {
    const open = Object.values(inputsOf(resources, COMMAND)).map((inputs) => {
      const { create, update, triggers } = inputs as Record<string, unknown>;
      return JSON.stringify([create, update, triggers]);
    });
    expect(open.filter((text) => /SCRAM-SHA-256\$\d|pem-of|secret of/.test(text))).toEqual([]);
    const holders = resources.filter(({ inputs }) =>
      JSON.stringify(inputs).includes("nl-1.password"),
    );
    expect(holders).toEqual([]);
  });

  it("runs a program again where the program or a setting has changed, and nothing for what goes", () => {
    for (const name of ["nl-1-k3s", "nl-1-postgresql"]) {
      expect(inputOf(resources, COMMAND, name, "delete")).toBeUndefined();
      expect(inputOf(resources, COMMAND, name, "triggers")).toEqual([
        expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      ]);
    }
  });

  it("asks for the proof of encryption again before whatever runs a program again", () => {
    const check = inputsOf(resources, COMMAND)["nl-1-storage-check"] as Record<string, unknown>;
    expect(check["triggers"]).toEqual(
      ["nl-1-k3s", "nl-1-postgresql"]
        .flatMap((name) => [
          inputOf(resources, COMMAND, name, "create"),
          ...(inputOf(resources, COMMAND, name, "triggers") as readonly string[]),
        ])
        // Of what PostgreSQL's program reads, which is in no command.
        .concat([digestOf(inputOf(resources, COMMAND, "nl-1-postgresql", "stdin"))]),
    );
  });

  it("proves the folders that are written to, and those of the settings beside them", async () => {
    const fleet = goodFleet();
    const host = parseHost(goodHostInput(), "the test");
    const location = {
      ...hostLocation(fleet, host),
      encryptedFolders: ["/srv/data", "/var/log"],
      capacityTenants: 10_000,
    };
    const made = await construct(() => void deployHost(fleet, host, location, TEST_SECRETS));
    const folders = "/var/lib/rancher /var/lib/kubelet /var/lib/postgresql /var/log /srv/data";
    expect(inputOf(made, COMMAND, "nl-1-storage-check", "create")).toBe(`sh -s check ${folders}`);
    for (const name of ["nl-1-k3s", "nl-1-postgresql"]) {
      expect(inputOf(made, COMMAND, name, "create")).toContain(`FOLDERS='${folders}'`);
    }
    // However many tenants, no more than a server can hold.
    expect(inputOf(made, COMMAND, "nl-1-postgresql", "create")).toContain("MAX_CONNECTIONS=10000 ");
  });

  it("renews the server's certificate in each yearly deploy", () => {
    const certificate = inputsOf(resources, "tls:index/locallySignedCert:LocallySignedCert")[
      "nl-1-server-certificate"
    ] as { validityPeriodHours: number; earlyRenewalHours: number };
    const untilRenewed = certificate.validityPeriodHours - certificate.earlyRenewalHours;
    expect(untilRenewed).toBeLessThan(365 * 24);
    expect(certificate.earlyRenewalHours).toBeGreaterThan(366 * 24);
  });

  it("deletes nothing on the host", () => {
    for (const inputs of Object.values(inputsOf(resources, COMMAND))) {
      expect(inputs).not.toHaveProperty("delete");
    }
  });

  it("keeps the authority that clients trust, and certifies the one address", () => {
    expect(resources.filter((one) => one.protect).map(({ name }) => name)).toEqual([
      "nl-1-server-authority-key",
      "nl-1-server-authority",
    ]);
    expect(
      inputOf(resources, "tls:index/certRequest:CertRequest", "nl-1-server-request", "ipAddresses"),
    ).toEqual(["10.77.0.21"]);
  });

  it("says on the command line all that the host is made into, out of the fleet's settings", () => {
    expect(inputOf(resources, COMMAND, "nl-1-postgresql", "create")).toBe(
      "VERSION=15.18-0+deb12u1 ADDRESS=10.77.0.21 PORT=5432 ADMIN=admin MAX_CONNECTIONS=4100 " +
        "FOLDERS='/var/lib/rancher /var/lib/kubelet /var/lib/postgresql /var/log' " +
        "/usr/local/lib/fluxbilling/postgresql install",
    );
    expect(inputOf(resources, COMMAND, "nl-1-kubeconfig", "create")).toBe(
      "GENERATION=1 ADDRESS=10.77.0.21 API_PORT=6443 /usr/local/lib/fluxbilling/k3s kubeconfig",
    );
  });

  it("refuses a password that SCRAM does not take as it is, before anything is registered", () => {
    const fleet = goodFleet();
    const host = parseHost(goodHostInput(), "the test");
    const secrets = { ...TEST_SECRETS, read: () => "pa\u00dfwort" };
    expect(() => deployHost(fleet, host, hostLocation(fleet, host), secrets)).toThrow(
      'Setting "fluxbilling:fleet.locations.nl-1.postgres.adminPassword": its secret must be of printable ASCII characters, got another. Make one with `openssl rand -base64 24`.',
    );
  });

  function digestOf(text: unknown): string {
    return `sha256:${createHash("sha256").update(String(text)).digest("hex")}`;
  }

  function secretsOf(name: string): readonly string[] {
    return resources.find((one) => one.type === COMMAND && one.name === name)?.secretInputs ?? [];
  }
});

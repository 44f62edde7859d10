import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { Refusal } from "../../model/refusal.ts";
import { stackSettings } from "../../stacks/stack-settings.ts";
import { goodFleetInput, goodHostInput } from "../support/good.ts";

const TENANT = { name: "acme", location: "nl-1" };

describe("stackSettings", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stack-settings-"));
    writeFileSync(
      join(folder, "fleet.yaml"),
      stringify({ config: { "fluxbilling:fleet": goodFleetInput() } }),
    );
    writeFileSync(join(folder, "empty.yaml"), "config: {}\n");
    writeFileSync(join(folder, "broken.yaml"), "config: [\n");
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it("takes a stack with fluxbilling:fleet as the fleet", () => {
    expect(stackSettings({ fleet: goodFleetInput() }, "test", folder).kind).toBe("fleet");
  });

  describe("beside the settings of another environment", () => {
    const other = "Pulumi.other.yaml";
    const own = {
      settingsKeyId: "0123456789abcdef",
      hostKey: `ssh-ed25519 ${"A".repeat(67)}B`,
      recipient: `age1${"q".repeat(57)}0`,
    };

    /** Settings of a fleet that has everything for itself, as the file holds them. */
    function otherFleet(): ReturnType<typeof fleetParts> {
      const fleet = fleetParts();
      fleet.name = "other";
      fleet.settingsKeyId = own.settingsKeyId;
      fleet.master.ssh = { ...fleet.master.ssh, hostKey: own.hostKey };
      fleet.standby.ssh = { ...fleet.standby.ssh, hostKey: own.hostKey };
      fleet.backupStores.master.ssh = { ...fleet.backupStores.master.ssh, hostKey: own.hostKey };
      fleet.backupStores.master.recipients = [own.recipient];
      return fleet;
    }

    function fleetParts() {
      return structuredClone(goodFleetInput()) as {
        name: string;
        settingsKeyId: string;
        master: { ssh: { hostKey: string } };
        standby: { ssh: { hostKey: string } };
        backupStores: { master: { ssh: { hostKey: string }; recipients: string[] } };
      };
    }

    function write(fleet: unknown): void {
      writeFileSync(
        join(folder, other),
        stringify({ config: { "fluxbilling:fleet": fleet, "fluxbilling:note": "kept" } }),
      );
    }

    const settings = (): unknown => stackSettings({ fleet: goodFleetInput() }, "test", folder);

    afterEach(() => {
      rmSync(join(folder, other));
    });

    it("takes a fleet that shares nothing with it", () => {
      write(otherFleet());
      expect(settings()).toMatchObject({ kind: "fleet" });
    });

    it("takes another file of the same fleet", () => {
      write(fleetParts());
      expect(settings()).toMatchObject({ kind: "fleet" });
    });

    const good = fleetParts();
    it.each([
      [
        "the root key",
        "settingsKeyId",
        good.settingsKeyId,
        (fleet: typeof good) => (fleet.settingsKeyId = good.settingsKeyId),
      ],
      [
        "a host",
        "master.ssh.hostKey",
        good.master.ssh.hostKey,
        (fleet: typeof good) => (fleet.standby.ssh = good.standby.ssh),
      ],
      [
        "a backup key",
        "backupStores.master.recipients",
        good.backupStores.master.recipients[0] ?? "",
        (fleet: typeof good) =>
          (fleet.backupStores.master.recipients = [
            own.recipient,
            ...good.backupStores.master.recipients,
          ]),
      ],
    ])("refuses a fleet that shares %s with it", (_what, setting, key, share) => {
      const fleet = otherFleet();
      share(fleet);
      write(fleet);
      expect(settings).toThrow(
        new Refusal(
          "ENVIRONMENT_SHARED",
          `Fleet "test": ${setting} must be this environment's own, got "${key}", which fleet "other" in ${other} has too. Make a key of its own for the one of the two that is newer.`,
        ),
      );
    });

    it("refuses settings that cannot be read, whatever they hold", () => {
      writeFileSync(join(folder, other), "config: [ fluxbilling:fleet\n");
      expect(settings).toThrow(
        `Stack "test": another environment's settings must be YAML, got a file that is not at "${other}".`,
      );
      write({ ...otherFleet(), settingsKeyId: "short" });
      expect(settings).toThrow(/settingsKeyId": must be the 16 hexadecimal digits/);
    });

    it("leaves tenants' settings alone", () => {
      writeFileSync(join(folder, other), "config: { fluxbilling:fleetFile: [\n");
      expect(settings()).toMatchObject({ kind: "fleet" });
    });
  });

  it("takes a stack with fluxbilling:tenant as a tenant of the fleet in the file", () => {
    const settings = stackSettings(
      { tenant: TENANT, fleetFile: "fleet.yaml" },
      "test.acme",
      folder,
    );
    expect(settings.kind === "tenant" && settings.placement.locationName).toBe("nl-1");
  });

  it("takes a stack with fluxbilling:host as the host of a location of the fleet in the file", () => {
    const raw = { host: goodHostInput(), fleetFile: "fleet.yaml" };
    const settings = stackSettings(raw, "test.host.nl-1", folder);
    expect(settings.kind === "host" && settings.location.address).toBe("10.77.0.21");
  });

  it.each([
    [
      "two kinds",
      { fleet: {}, tenant: {} },
      "test",
      "STACK_KIND",
      'Stack "test": must hold one of fluxbilling:fleet, fluxbilling:tenant and fluxbilling:host, got fleet and tenant. Keep the one that this stack is in Pulumi.test.yaml.',
    ],
    [
      "no kind",
      {},
      "test",
      "STACK_KIND",
      'Stack "test": must hold one of fluxbilling:fleet, fluxbilling:tenant and fluxbilling:host, got none. Keep the one that this stack is in Pulumi.test.yaml.',
    ],
    [
      "a fleet in a stack of another name",
      { fleet: goodFleetInput() },
      "prod",
      "STACK_NAME",
      'Stack "prod": a fleet\'s stack must be called as the fleet, "test", got "prod". Select or make the stack "test".',
    ],
    [
      "a tenant in a stack of another name",
      { tenant: TENANT, fleetFile: "fleet.yaml" },
      "test.other",
      "STACK_NAME",
      'Stack "test.other": a tenant\'s stack must be called <fleet>.<tenant>, "test.acme", got "test.other". Select or make the stack "test.acme".',
    ],
    [
      "a host beside a tenant",
      { tenant: TENANT, host: goodHostInput() },
      "test.acme",
      "STACK_KIND",
      'Stack "test.acme": must hold one of fluxbilling:fleet, fluxbilling:tenant and fluxbilling:host, got tenant and host. Keep the one that this stack is in Pulumi.test.acme.yaml.',
    ],
    [
      "a host in a stack of another name",
      { host: goodHostInput(), fleetFile: "fleet.yaml" },
      "test.nl-1",
      "STACK_NAME",
      'Stack "test.nl-1": a host\'s stack must be called <fleet>.host.<location>, "test.host.nl-1", got "test.nl-1". Select or make the stack "test.host.nl-1".',
    ],
    [
      "a host of a location that the fleet does not have",
      { host: { ...goodHostInput(), location: "nl-9" }, fleetFile: "fleet.yaml" },
      "test.host.nl-9",
      "LOCATION_UNKNOWN",
      'Host "nl-9": location must be one of nl-1, fi-1, got "nl-9". Set fluxbilling:host.location to one of them, or write the location into the fleet\'s settings first.',
    ],
    [
      "a host without a fleet file",
      { host: goodHostInput() },
      "test.host.nl-1",
      "FLEET_FILE",
      "Stack \"test.host.nl-1\": fluxbilling:fleetFile must be the path of the fleet's settings, got none. Set it to the fleet's settings, for example Pulumi.prod.yaml.",
    ],
    [
      "no fleet file",
      { tenant: TENANT },
      "test.acme",
      "FLEET_FILE",
      "Stack \"test.acme\": fluxbilling:fleetFile must be the path of the fleet's settings, got none. Set it to the fleet's settings, for example Pulumi.prod.yaml.",
    ],
    [
      "a missing fleet file",
      { tenant: TENANT, fleetFile: "gone.yaml" },
      "test.acme",
      "FLEET_FILE",
      'Stack "test.acme": fluxbilling:fleetFile must be a readable file, got ENOENT at "gone.yaml". Set it to the fleet\'s settings, for example Pulumi.prod.yaml.',
    ],
    [
      "a fleet file that is not YAML",
      { tenant: TENANT, fleetFile: "broken.yaml" },
      "test.acme",
      "FLEET_FILE",
      'Stack "test.acme": fluxbilling:fleetFile must be YAML, got a file that is not at "broken.yaml". Set it to the fleet\'s settings, for example Pulumi.prod.yaml.',
    ],
    [
      "a fleet file without a fleet",
      { tenant: TENANT, fleetFile: "empty.yaml" },
      "test.acme",
      "FLEET_FILE",
      'Stack "test.acme": fluxbilling:fleetFile must be a file with fluxbilling:fleet under config, got none in "empty.yaml". Set it to the fleet\'s settings, for example Pulumi.prod.yaml.',
    ],
  ] as const)("refuses %s", (_, raw, stack, code, message) => {
    expect(() => stackSettings(raw, stack, folder)).toThrow(new Refusal(code, message));
  });
});

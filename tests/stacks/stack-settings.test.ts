import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { Refusal } from "../../model/refusal.ts";
import { stackSettings } from "../../stacks/stack-settings.ts";
import { goodFleetInput } from "../support/good.ts";

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

  it("takes a stack with fluxbilling:tenant as a tenant of the fleet in the file", () => {
    const settings = stackSettings(
      { tenant: TENANT, fleetFile: "fleet.yaml" },
      "test.acme",
      folder,
    );
    expect(settings.kind === "tenant" && settings.placement.locationName).toBe("nl-1");
  });

  it.each([
    [
      "both kinds",
      { fleet: {}, tenant: {} },
      "test",
      "STACK_KIND",
      'Stack "test": must hold either fluxbilling:fleet or fluxbilling:tenant, got both. Keep the one of the two that this stack is in Pulumi.test.yaml.',
    ],
    [
      "neither kind",
      {},
      "test",
      "STACK_KIND",
      'Stack "test": must hold either fluxbilling:fleet or fluxbilling:tenant, got neither. Keep the one of the two that this stack is in Pulumi.test.yaml.',
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

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";

import { preview } from "../../embedded/deploy.ts";
import { openDoors } from "../../embedded/doors/doors.ts";
import { pulumiFailure, runPulumi, stackExport } from "../../embedded/engine/engine.ts";
import { type LocalStack, localStackOf, writeTenantStack } from "../../embedded/local-fleet.ts";
import type { PlatformFacts } from "../../embedded/machines/platform.ts";
import { kubectl, platform, query } from "../support/platform.ts";

/** A stack's settings file as YAML holds it. */
interface Settings {
  config: { [key: string]: unknown };
}

describe("bad input", () => {
  let facts: PlatformFacts;
  const folders: string[] = [];

  beforeAll(async () => {
    facts = await platform();
  });

  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  });

  it("refuses a tenant in an unknown location", async () => {
    expect(await refusalOf({ location: "atlantis" })).toBe(
      'Tenant "refused": location must be one of nl-1, fi-1, got "atlantis". Set fluxbilling:tenant.location ' +
        "to one of them, or add the location to the fleet first.",
    );
    await expectNothingMade();
  });

  it("refuses a malformed name", async () => {
    expect(await refusalOf({ name: "Refused!" })).toBe(
      'Setting "fluxbilling:tenant.name": must be 2 to 40 small letters, digits and single hyphens, start with a ' +
        'letter and end with a letter or digit, got "Refused!". Correct it in Pulumi.local.refused.yaml.',
    );
    await expectNothingMade();
  });

  it("refuses a kubeconfig that is not there", async () => {
    const fleetFile = join(temporaryFolder(), "Pulumi.local.yaml");
    const fleet = read(localStackOf("local").configFile);
    const missing = join(temporaryFolder(), "nobody.kubeconfig");
    const settings = fleet.config["fluxbilling:fleet"] as {
      locations: { "nl-1": { kubernetes: { kubeconfig: unknown } } };
    };
    settings.locations["nl-1"].kubernetes.kubeconfig = { file: missing };
    writeFileSync(fleetFile, stringify(fleet));
    expect(await refusalOf({}, fleetFile)).toBe(
      'Setting "fluxbilling:fleet.locations.nl-1.kubernetes.kubeconfig": its file must be readable, got ENOENT at ' +
        `"${missing}". Put the file there, or name the right one in the setting.`,
    );
    await expectNothingMade();
  });

  it("refuses a wrong passphrase", async () => {
    const fleet = localStackOf("local");
    const run = await preview(fleet, facts, {
      env: { PULUMI_CONFIG_PASSPHRASE: "canary-wrong-passphrase" },
    });
    expect(run.exitCode).not.toBe(0);
    expect(pulumiFailure(fleet.name, run).message).toBe(
      'Stack "local": the passphrase must be the one its secrets were encrypted with, got another. Unset ' +
        "PULUMI_CONFIG_PASSPHRASE and PULUMI_CONFIG_PASSPHRASE_FILE, or set the right one.",
    );
    expect(`${run.stdout}${run.stderr}`).not.toContain("canary-wrong-passphrase");
  });

  it("refuses a port in use", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as { port: number };
    try {
      await expect(
        openDoors(
          [{ port, machine: "nl-1", targetHost: "127.0.0.1", targetPort: 1 }],
          (argv) => argv,
          join(temporaryFolder(), "doors.json"),
        ),
      ).rejects.toThrow(
        `Door "127.0.0.1:${port}": its port must be free, got one in use. End what listens there, or set ` +
          "FLUX_DOORS to the first of three free ports.",
      );
    } finally {
      taken.close();
    }
  });

  it("begins nothing on a disk that has no room to record it", async () => {
    const stateFolder = temporaryFolder();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", stateFolder]);
    try {
      const stack = await writeTenantStack({ name: "refused", location: "nl-1", plan: "lite" });
      const options = { stateFolder, stackConfigFile: stack.configFile, env: stack.environment };
      await expect(runPulumi(["up", "--yes", "--stack", stack.name], options)).rejects.toThrow(
        `State folder "${stateFolder}": its disk must have 256 MiB free, got 8 MiB. Free some space there and run ` +
          "it again; nothing was begun.",
      );
    } finally {
      execFileSync("umount", [stateFolder]);
    }
    await expectNothingMade();
  });

  /** The sentence that a preview of a tenant is refused with; its settings are right but for the given ones. */
  async function refusalOf(
    spoilt: { readonly [key: string]: string },
    fleetFile?: string,
  ): Promise<string> {
    const good = await writeTenantStack({ name: "refused", location: "nl-1", plan: "lite" });
    const settings = read(good.configFile);
    settings.config["fluxbilling:tenant"] = {
      ...(settings.config["fluxbilling:tenant"] as object),
      ...spoilt,
    };
    if (fleetFile !== undefined) settings.config["fluxbilling:fleetFile"] = fleetFile;
    const stack: LocalStack = {
      ...good,
      configFile: join(temporaryFolder(), "Pulumi.local.refused.yaml"),
    };
    writeFileSync(stack.configFile, stringify(settings));
    const run = await preview(stack, facts);
    expect(run.exitCode).not.toBe(0);
    return pulumiFailure(stack.name, run).message;
  }

  async function expectNothingMade(): Promise<void> {
    const location = facts.machines["nl-1"];
    expect(await kubectl(location, "get", "namespaces", "-o", "name")).not.toContain("refused");
    expect(
      await query(location, "select rolname from pg_roles where rolname like '%refused%'"),
    ).toEqual([]);
    expect((await stackExport("local.refused")).deployment.resources ?? []).toEqual([]);
  }

  function temporaryFolder(): string {
    const folder = mkdtempSync(join(tmpdir(), "refusals-"));
    folders.push(folder);
    return folder;
  }

  function read(file: string): Settings {
    return parse(readFileSync(file, "utf8")) as Settings;
  }
});

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Refusal } from "../../model/refusal.ts";
import { secretSource } from "../../stacks/secret-source.ts";
import { goodFleet, TEST_ROOT_KEY } from "../support/good.ts";

const SETTING = "fluxbilling:fleet.locations.nl-1.postgres.adminPassword";

describe("secretSource", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "secret-source-"));
    writeFileSync(join(folder, "password"), "hunter2\n");
    writeFileSync(join(folder, "nothing"), "\n");
    writeFileSync(join(folder, "root"), `${TEST_ROOT_KEY.toString("base64")}\n`);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it("reads a file of the project's folder without the line end", () => {
    expect(secretSource(folder, {}).read({ file: "password" }, SETTING)).toBe("hunter2");
  });

  it("reads a variable", () => {
    expect(secretSource(folder, { PASSWORD: "hunter2" }).read({ env: "PASSWORD" }, SETTING)).toBe(
      "hunter2",
    );
  });

  it.each([
    [
      { file: "gone" },
      `Setting "${SETTING}": its file must be readable, got ENOENT at "gone". Put the file there, or name the right one in the setting.`,
    ],
    [
      { file: "nothing" },
      `Setting "${SETTING}": its secret must not be empty, got nothing. Write the secret where the setting points.`,
    ],
    [
      { env: "GONE" },
      `Setting "${SETTING}": the variable GONE must hold the secret, got none. Set it for the deploy, or name another source in the setting.`,
    ],
  ])("refuses %j with the way out", (reference, message) => {
    expect(() => secretSource(folder, {}).read(reference, SETTING)).toThrow(
      new Refusal("SECRET_MISSING", message),
    );
  });

  it.each([
    [{ SETTINGS_ENCRYPTION_KEY: TEST_ROOT_KEY.toString("hex") }],
    [{ SETTINGS_ENCRYPTION_KEY_FILE: "root" }],
  ])("reads the fleet's root key from %j", (environment) => {
    expect(secretSource(folder, environment).rootKey(goodFleet())).toEqual(TEST_ROOT_KEY);
  });

  it("refuses a deploy of a tenant without the root key", () => {
    expect(() => secretSource(folder, {}).rootKey(goodFleet())).toThrow(
      new Refusal(
        "SECRET_MISSING",
        'Fleet "test": SETTINGS_ENCRYPTION_KEY or SETTINGS_ENCRYPTION_KEY_FILE must be set for a deploy of a tenant, got neither. Give the key that the fleet was made with; it is kept outside every stack.',
      ),
    );
  });

  it("refuses a root key that is not the fleet's", () => {
    const environment = { SETTINGS_ENCRYPTION_KEY: "12".repeat(32) };
    expect(() => secretSource(folder, environment).rootKey(goodFleet())).toThrow(
      /^Fleet "test": SETTINGS_ENCRYPTION_KEY must be the key with id [0-9a-f]{16}, got the key with id [0-9a-f]{16}\. /,
    );
  });
});

import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const PROGRAM = join(import.meta.dirname, "../../../components/host/encrypted-storage.sh");

/** A block device as the kernel shows it. */
interface Device {
  readonly uuid?: string;
  /** What device mapper says of it. */
  readonly table?: string;
  /** What it is made of. */
  readonly slaves?: readonly string[];
}

/** The zeros that device mapper shows in place of a key. */
const key = (bits: number): string => "0".repeat(bits / 4);
const crypt = (cipher: string, shownKey: string): Device => ({
  uuid: "CRYPT-LUKS2-0123-data",
  table: `0 4096 crypt ${cipher} ${shownKey} 0 8:2 32768`,
});
const LUKS = crypt("aes-xts-plain64", key(512));
const DISK: Device = {};

let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "storage-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

/**
 * Runs the program over a kernel's tree of block devices that is made for it, in a mount namespace of its own: what a
 * kernel without device mapper cannot show. The programs that ask the kernel are made to tell the same tree.
 */
function check(
  devices: Readonly<Record<string, Device>>,
  { device = "dm-0", type = "ext4" } = {},
): { readonly status: number | null; readonly said: string } {
  const [tree, programs] = [join(folder, "block"), join(folder, "bin")];
  mkdirSync(programs);
  for (const [name, { uuid, slaves = [] }] of Object.entries(devices)) {
    mkdirSync(join(tree, name, "slaves"), { recursive: true });
    for (const slave of slaves) writeFileSync(join(tree, name, "slaves", slave), "");
    if (uuid !== undefined) {
      mkdirSync(join(tree, name, "dm"));
      writeFileSync(join(tree, name, "dm", "uuid"), uuid);
      writeFileSync(join(tree, name, "dm", "name"), name);
    }
  }
  const program = (name: string, text: string): void => {
    writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(programs, name), 0o755);
  };
  const tables = Object.entries(devices).map(
    ([name, { table = "" }]) => `${name}) echo '${table}' ;;`,
  );
  program("dmsetup", `[ "$1" = table ] || exit 1\ncase $2 in ${tables.join(" ")} esac`);
  program(
    "findmnt",
    `case $2 in FSTYPE) echo ${type} ;; SOURCE) echo /dev/${device} ;; *) echo /dev/${device} ${type} ;; esac`,
  );
  program("pg_lsclusters", "true");
  const data = join(folder, "data");
  mkdirSync(data);
  const { status, stdout, stderr } = spawnSync(
    "unshare",
    [
      ...["--mount", "sh", "-euc", 'mount --bind "$1" /sys/class/block; exec sh "$2" check "$3"'],
      ...["sh", tree, PROGRAM, data],
    ],
    { encoding: "utf8", env: { PATH: `${programs}:/usr/sbin:/usr/bin:/sbin:/bin` } },
  );
  return { status, said: `${stdout}${stderr}`.replaceAll(folder, "") };
}

describe("encrypted-storage check", () => {
  it.each([
    ["LUKS with AES-256-XTS", { "dm-0": LUKS }, "AES-256-XTS"],
    [
      "a key in the kernel's keyring",
      { "dm-0": crypt("aes-xts-plain64", ":64:logon:cryptsetup:0123-d0") },
      "AES-256-XTS",
    ],
    ["LUKS with AES-256-CBC", { "dm-0": crypt("aes-cbc-essiv:sha256", key(256)) }, "AES-256-CBC"],
    [
      "a logical volume on LUKS",
      { "dm-0": { uuid: "LVM-0123", slaves: ["dm-1"] }, "dm-1": LUKS },
      "AES-256-XTS",
    ],
  ] as const)("takes %s", (_, devices, cipher) => {
    expect(check(devices)).toEqual({ status: 0, said: `{"/data": "dm-crypt ${cipher}"}\n` });
  });

  it.each([
    ["a plain disk", { "dm-0": DISK }, {}],
    ["half of the key's bits", { "dm-0": crypt("aes-xts-plain64", key(256)) }, {}],
    [
      "half of the key's bytes, in the keyring",
      { "dm-0": crypt("aes-xts-plain64", ":32:logon:cryptsetup:0123-d0") },
      {},
    ],
    ["another cipher", { "dm-0": crypt("serpent-xts-plain64", key(512)) }, {}],
    ["integrity without secrecy", { "dm-0": { ...LUKS, uuid: "CRYPT-VERITY-0123" } }, {}],
    [
      "a mirror of which one half is in clear",
      { "dm-0": { uuid: "LVM-0123", slaves: ["dm-1", "sda2"] }, "dm-1": LUKS, sda2: DISK },
      {},
    ],
    ["a file system of several devices", { "dm-0": LUKS }, { type: "btrfs" }],
  ] as const)("refuses %s", (_, devices, where) => {
    const { status, said } = check(devices, where);
    expect([status, said]).toEqual([
      1,
      `Encrypted storage: "/data" must lie on storage encrypted with AES-256, by dm-crypt or fscrypt, got /dev/dm-0 ${"type" in where ? where.type : "ext4"} in clear. See docs/runbooks/encrypted-storage.md.\n`,
    ]);
  });

  it.each([
    [[], 'the command must be check, got "".'],
    [["check"], "check must be given folders, got none."],
  ])("refuses the words %j", (words, message) => {
    const { status, stderr } = spawnSync("sh", [PROGRAM, ...words], { encoding: "utf8" });
    expect([status, stderr]).toEqual([1, `Encrypted storage: ${message}\n`]);
  });

  it("is plain sh", () => {
    execFileSync("dash", ["-n", PROGRAM]);
  });
});

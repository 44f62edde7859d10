import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mustRun, runCommand } from "./command.ts";
import { machineFolder } from "./layout.ts";
import type { AnyMachineName } from "./layout.ts";
import { MachineError } from "./machine-error.ts";

/** What a machine may store. The file behind its disk takes only the room that is used. */
const DISK_BYTES = 64 * 2 ** 30;
const KEY_BYTES = 64;

/** Where a machine's data lie, as the host sees it: below this, all is encrypted. There while the machine is prepared or runs. */
export function dataFolder(name: AnyMachineName): string {
  return join(mountPoint(name), "data");
}

/** The file that holds all that a machine stores. */
export function diskImage(name: AnyMachineName): string {
  return join(machineFolder(name), "disk.img");
}

function mountPoint(name: AnyMachineName): string {
  return join(machineFolder(name), "disk");
}

/**
 * Brings a machine's disk: a file system of its own in a file, its folder of data encrypted with AES-256-XTS by the
 * kernel. Safe to repeat; a disk that is there is unlocked with its data.
 *
 * The key lies beside the disk, so this keeps nobody out who can read the checkout. It is here because a location's
 * data must lie on encrypted storage, and what proves it must find it so.
 */
export async function openDisk(name: AnyMachineName): Promise<void> {
  const folder = machineFolder(name);
  const step = `bring the disk of ${name}`;
  if (existsSync(join(folder, "data"))) {
    throw new MachineError(
      `Machine "${name}": its data must lie on its encrypted disk, got "${join(folder, "data")}" of an earlier version.`,
      { step, wayOut: "Run npm stop, remove .cache/platform and .cache/state, then start again." },
    );
  }
  const keyFile = join(folder, "disk.key");
  const image = diskImage(name);
  if (!existsSync(image)) {
    await writeFile(keyFile, randomBytes(KEY_BYTES), { mode: 0o600 });
    const fresh = `${image}.new`;
    await writeFile(fresh, "", { mode: 0o600 });
    await truncate(fresh, DISK_BYTES);
    await mustRun(step, [
      ...["mkfs.ext4", "-q", "-F", "-O", "encrypt", "-m", "0"],
      // Left to the kernel, which has nothing to do in a file that is all zeros.
      ...["-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", fresh],
    ]);
    await rename(fresh, image);
  }
  if (!isMounted(name)) {
    await mkdir(mountPoint(name), { recursive: true });
    await mustEncrypt(name, ["mount", "-o", "loop", image, mountPoint(name)]);
  }
  await mkdir(dataFolder(name), { recursive: true });
  await mustEncrypt(
    name,
    ["perl", join(import.meta.dirname, "encrypt-folder.pl"), mountPoint(name), dataFolder(name)],
    await readFile(keyFile),
  );
}

/** Runs what fails where the kernel cannot do it. */
async function mustEncrypt(
  name: AnyMachineName,
  argv: readonly string[],
  stdin: Uint8Array = new Uint8Array(),
): Promise<void> {
  const { exitCode, stderr } = await runCommand(argv, { stdin });
  if (exitCode === 0) return;
  throw new MachineError(
    `Machine "${name}": its disk must be encrypted, got "${stderr.trim().split("\n").at(-1) ?? ""}".`,
    {
      step: `bring the disk of ${name}`,
      command: argv.join(" "),
      wayOut:
        "Use a kernel with loop devices and CONFIG_FS_ENCRYPTION, as Debian's, and root's rights to mount.",
    },
  );
}

/** Takes a halted machine's disk away; with it goes its key from the kernel. Safe to repeat. */
export async function closeDisk(name: AnyMachineName): Promise<void> {
  if (isMounted(name)) await mustRun(`close the disk of ${name}`, ["umount", mountPoint(name)]);
}

function isMounted(name: AnyMachineName): boolean {
  return readFileSync("/proc/self/mounts", "utf8").includes(` ${mountPoint(name)} ext4 `);
}

/** Copies an asset or an archive to a host over SFTP, with the official plugin's rules for the destination. */
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { posix } from "node:path";
import type { SFTPWrapper, Stats } from "ssh2";
import type { Properties } from "../provider.ts";

/** SFTP's status for a path that is not there. */
const NO_SUCH_FILE = 2;

/**
 * Writes the source to the path. A folder is copied into an existing folder (its content only, when the local path
 * ends in a slash), a file into an existing folder or over an existing file. A packed archive stays packed.
 */
export async function copySource(
  sftp: SFTPWrapper,
  source: Properties,
  remotePath: string,
): Promise<void> {
  const path = source["path"];
  if (typeof path !== "string" || path === "") {
    if ((await remoteStat(sftp, remotePath))?.isDirectory()) {
      throw new Error(
        `CopyToRemote "${remotePath}": a text asset's remotePath must be a file, got a folder. ` +
          `Add the file's name to it.`,
      );
    }
    const text = source["text"];
    await write(sftp, remotePath, Buffer.from(typeof text === "string" ? text : "", "utf8"));
    return;
  }
  const destination = await remoteStat(sftp, remotePath);
  if (!(await stat(path)).isDirectory()) {
    const target = destination?.isDirectory() ? posix.join(remotePath, basename(path)) : remotePath;
    await write(sftp, target, await readFile(path));
    return;
  }
  await ensureFolder(sftp, remotePath);
  if (path.endsWith("/")) {
    await copyFolder(sftp, path, remotePath);
    return;
  }
  const target = posix.join(remotePath, basename(path));
  await ensureFolder(sftp, target);
  await copyFolder(sftp, path, target);
}

async function copyFolder(sftp: SFTPWrapper, from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const target = posix.join(to, entry.name);
    const local = join(from, entry.name);
    if (entry.isDirectory()) {
      await ensureFolder(sftp, target);
      await copyFolder(sftp, local, target);
    } else {
      await write(sftp, target, await readFile(local));
    }
  }
}

async function ensureFolder(sftp: SFTPWrapper, path: string): Promise<void> {
  const existing = await remoteStat(sftp, path);
  if (existing === undefined) {
    await call(path, "create folder", (done) => sftp.mkdir(path, done));
  } else if (!existing.isDirectory()) {
    throw new Error(
      `CopyToRemote "${path}": the path must be a folder or not exist, got a file. ` +
        `Choose another remotePath, or remove the file.`,
    );
  }
}

async function remoteStat(sftp: SFTPWrapper, path: string): Promise<Stats | undefined> {
  return new Promise((resolve, reject) => {
    sftp.stat(path, (error, stats) => {
      if (error === undefined) resolve(stats);
      else if ((error as { code?: unknown }).code === NO_SUCH_FILE) resolve(undefined);
      else reject(failed(path, "look at", error));
    });
  });
}

async function write(sftp: SFTPWrapper, path: string, content: Buffer): Promise<void> {
  await call(path, "write", (done) => sftp.writeFile(path, content, done));
}

async function call(
  path: string,
  what: string,
  start: (done: (error?: Error | null) => void) => void,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    start((error) => {
      if (error) reject(failed(path, what, error));
      else resolve();
    });
  });
}

function failed(path: string, what: string, error: Error): Error {
  return new Error(
    `CopyToRemote "${path}": the host must let its user ${what} it, got ${error.message}. ` +
      `Check that the parent folder exists and the user's rights.`,
    { cause: error },
  );
}

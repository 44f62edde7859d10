import { spawn } from "node:child_process";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { dirname, join } from "node:path";

import { CACHE } from "../paths.ts";
import { PlatformError } from "../platform-error.ts";

/** A port on this machine's loopback behind which a machine's port answers. */
export interface Door {
  readonly port: number;
  readonly machine: string;
  readonly targetHost: string;
  readonly targetPort: number;
}

const STATE_FILE = join(CACHE, "platform", "doors.json");
const LOG_FILE = join(CACHE, "logs", "doors.log");

/** The first door's port. @default 8443 */
export function firstDoorPort(): number {
  const text = process.env["FLUX_DOORS"] ?? "8443";
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_000) {
    throw new PlatformError(
      `FLUX_DOORS "${text}": must be a port from 1 to 65000. Set it to the first of three free ports.`,
    );
  }
  return port;
}

/**
 * Opens the doors, once: doors that stand are kept.
 *
 * The addresses of the machines exist only inside their network namespaces, so a browser on this machine has no
 * way to them. The listening sockets are made here, in the namespace of the person at the keyboard, and handed
 * to a process inside the operator's namespace, which accepts from them and connects to the machines.
 *
 * @param enter makes a command line run inside the operator's namespace
 * @param stateFile remembers which doors stand
 * @throws PlatformError when a port is taken
 */
export async function openDoors(
  doors: readonly Door[],
  enter: (argv: readonly string[]) => readonly string[],
  stateFile: string = STATE_FILE,
): Promise<void> {
  const wanted = JSON.stringify(doors);
  const standing = await standingDoors(stateFile);
  if (standing?.doors === wanted) return;
  if (standing !== undefined) await closeDoors(stateFile);

  const servers: Server[] = [];
  try {
    for (const door of doors) servers.push(await listen(door));
    await mkdir(dirname(LOG_FILE), { recursive: true });
    const log = await open(LOG_FILE, "a");
    const sockets = servers.map((server) => descriptorOf(server));
    const [command = "", ...args] = enter([
      process.execPath,
      join(import.meta.dirname, "keeper.ts"),
      wanted,
    ]);
    const keeper = spawn(command, args, {
      detached: true,
      stdio: ["ignore", log.fd, log.fd, ...sockets],
    });
    keeper.unref();
    await mkdir(dirname(stateFile), { recursive: true });
    await writeFile(stateFile, JSON.stringify({ pid: keeper.pid, doors: wanted }));
    await log.close();
  } finally {
    for (const server of servers) server.close();
  }
}

/** Closes the doors; none standing is fine. */
export async function closeDoors(stateFile: string = STATE_FILE): Promise<void> {
  const standing = await standingDoors(stateFile);
  if (standing !== undefined) process.kill(standing.pid, "SIGTERM");
  await rm(stateFile, { force: true });
}

async function standingDoors(
  stateFile: string,
): Promise<{ pid: number; doors: string } | undefined> {
  try {
    const state = JSON.parse(await readFile(stateFile, "utf8")) as { pid: number; doors: string };
    const commandLine = await readFile(`/proc/${state.pid}/cmdline`, "utf8");
    return commandLine.includes("doors/keeper.ts") ? state : undefined;
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

async function listen(door: Door): Promise<Server> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new PlatformError(
              `Door "127.0.0.1:${door.port}": its port must be free, got one in use. ` +
                "End what listens there, or set FLUX_DOORS to the first of three free ports.",
              { cause: error },
            )
          : error,
      );
    });
    server.listen({ host: "127.0.0.1", port: door.port }, () => {
      resolve(server);
    });
  });
}

/** Node has no public way to a listening socket's descriptor; its handle has carried it in every release. */
function descriptorOf(server: Server): number {
  const handle = (server as Server & { _handle?: { fd?: number } })._handle;
  if (handle?.fd === undefined || handle.fd < 0) {
    throw new Error("A listening socket must have a descriptor");
  }
  return handle.fd;
}

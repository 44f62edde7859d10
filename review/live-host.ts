import { readFileSync } from "node:fs";
import { join } from "node:path";
import ssh2 from "ssh2";
import { storageCheck } from "../model/encrypted-storage.ts";
import type { Subject } from "../policies/rule.ts";

/** How a review reaches a host. */
export interface HostAccess {
  /** Name of the machine or store. */
  readonly host: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** The host's own key, `ssh-ed25519 <base64>`: a host that shows another one is not asked. */
  readonly hostKey: string;
  readonly privateKey: string;
  /** Folders with data. */
  readonly folders: readonly string[];
}

/** Type of the subject with what a host says of its storage. */
export const STORAGE_TYPE = "live:ssh:Storage";

const ASK_SECONDS = 20;
const PROGRAM = readFileSync(
  join(import.meta.dirname, "../components/host/encrypted-storage.sh"),
  "utf8",
);

/**
 * Asks a host once more by what its folders are encrypted; its refusal is its answer.
 *
 * @param volumes Folders of its cluster's volumes, by their names.
 */
export async function liveStorage(
  access: HostAccess,
  volumes: Readonly<Record<string, string>> = {},
): Promise<Subject> {
  const { host, address, folders } = access;
  const { code, stdout, stderr } = await ask(access, storageCheck(folders));
  return {
    type: STORAGE_TYPE,
    name: host,
    urn: `host ${address}, storage`,
    props: {
      folders,
      volumes,
      ...(code === 0
        ? { ciphers: JSON.parse(stdout) as unknown }
        : { refusal: stderr.trim().split("\n").at(-1) ?? "" }),
    },
    opts: { protect: false, ignoreChanges: [] },
  };
}

interface Answer {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

async function ask(access: HostAccess, command: string): Promise<Answer> {
  const { address, port, user, hostKey, privateKey } = access;
  const [algorithm = "", pinned = ""] = hostKey.split(" ");
  const client = new ssh2.Client();
  try {
    return await new Promise<Answer>((resolve, reject) => {
      client
        .once("error", reject)
        .once("ready", () => {
          client.exec(command, (error, channel) => {
            if (error !== undefined) {
              reject(error);
              return;
            }
            const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
            channel.on("data", (chunk: Buffer) => stdout.push(chunk));
            channel.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
            channel.once("close", (code: number | undefined) => {
              const [said = "", refused = ""] = [stdout, stderr].map((chunks) =>
                Buffer.concat(chunks).toString("utf8"),
              );
              resolve({ code, stdout: said, stderr: refused });
            });
            channel.end(PROGRAM);
          });
        })
        .connect({
          host: address,
          port,
          username: user,
          privateKey,
          readyTimeout: ASK_SECONDS * 1_000,
          algorithms: { serverHostKey: [algorithm as "ssh-ed25519"] },
          hostVerifier: (key: Buffer) => key.toString("base64") === pinned,
        });
    });
  } finally {
    client.end();
  }
}

import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { mustRun } from "./command.ts";
import { INSIDE, INSIDE_ETC, PLATFORM } from "./layout.ts";
import type { MachinePlan } from "./layout.ts";
import { writeSettings } from "./settings-file.ts";
import type { Service } from "./service.ts";

/** The private key that every machine's root accepts; its public half has the ending `.pub`. */
export const SSH_KEY_FILE = join(PLATFORM, "ssh", "id_ed25519");
export const SSH_PORT = 22;

/** Makes the platform's SSH key unless it is there. */
export async function ensureSshKey(): Promise<void> {
  await ensureKey(SSH_KEY_FILE, "fluxbilling-platform");
}

/** Prepares a machine's host key and SSH settings in its `etc` folder. Returns the service. */
export async function prepareSshHost(machine: MachinePlan, etc: string): Promise<Service> {
  await ensureKey(join(etc, "ssh_host_ed25519_key"), machine.name);
  const authorized = await readFile(`${SSH_KEY_FILE}.pub`);
  await writeSettings(join(etc, "authorized_keys"), authorized, 0o600);
  const path = `${INSIDE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
  const environment = [`PATH=${path}`];
  if (machine.cluster !== undefined) {
    environment.push(`KUBECONFIG=${INSIDE_ETC}/kubernetes/admin.kubeconfig`);
  }
  await writeSettings(
    join(etc, "sshd_config"),
    `Port ${String(SSH_PORT)}
ListenAddress ${machine.address}
HostKey ${INSIDE_ETC}/ssh_host_ed25519_key
AuthorizedKeysFile ${INSIDE_ETC}/authorized_keys .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 200
MaxSessions 200
SetEnv ${environment.join(" ")}
Subsystem sftp internal-sftp
`,
  );
  return {
    name: "sshd",
    run: `mkdir -p -m 0755 /run/sshd
exec /usr/sbin/sshd -D -e -f ${INSIDE_ETC}/sshd_config`,
  };
}

/** The public host key of a machine: "ssh-ed25519 AAAA…". */
export async function hostKeyOf(etc: string): Promise<string> {
  const line = await readFile(join(etc, "ssh_host_ed25519_key.pub"), "utf8");
  return line.trim().split(" ").slice(0, 2).join(" ");
}

async function ensureKey(file: string, comment: string): Promise<void> {
  if (existsSync(file) && existsSync(`${file}.pub`)) return;
  await mkdir(join(file, ".."), { recursive: true });
  // Half a pair is left by an interrupted start; ssh-keygen would ask before it overwrites.
  await mustRun(`make the SSH key ${file}`, [
    ...["sh", "-c", 'rm -f "$1" "$1.pub"; exec ssh-keygen -q -t ed25519 -N "" -C "$2" -f "$1"'],
    ...["sh", file, comment],
  ]);
}

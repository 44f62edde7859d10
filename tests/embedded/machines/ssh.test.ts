import { readFileSync } from "node:fs";
import { Client } from "ssh2";
import type { ConnectConfig } from "ssh2";
import { describe, expect, it } from "vitest";
import type { MachineFacts, MachineName } from "../../../embedded/machines/platform.ts";
import { platform } from "../../support/platform.ts";

const MACHINES: readonly MachineName[] = ["master", "standby", "nl-1", "fi-1"];

async function machine(name: MachineName): Promise<MachineFacts> {
  return (await platform()).machines[name];
}

/** What a command prints over SSH, or the words of the refusal. */
async function overSsh(
  { ssh }: MachineFacts,
  command: string,
  change: ConnectConfig = {},
): Promise<string> {
  return new Promise((resolve) => {
    const client = new Client();
    client.once("ready", () => {
      client.exec(command, (error, stream) => {
        if (error !== undefined) {
          resolve(error.message);
          return;
        }
        let output = "";
        stream.on("data", (data: Buffer) => (output += data.toString()));
        stream.once("close", () => {
          client.end();
          resolve(output.trim());
        });
      });
    });
    client.once("error", (error) => {
      resolve(error.message);
    });
    client.connect({
      host: ssh.host,
      port: ssh.port,
      username: ssh.user,
      privateKey: readFileSync(ssh.privateKeyFile),
      hostVerifier: (key: Buffer) => `ssh-ed25519 ${key.toString("base64")}` === ssh.hostKey,
      ...change,
    });
  });
}

describe.each(MACHINES)("the sshd of %s", (name) => {
  it("shows the host key of the facts and runs commands on that very machine", async () => {
    expect(await overSsh(await machine(name), "hostname; id -un; pwd")).toBe(
      `${name}\nroot\n/root`,
    );
  });

  it("takes no password", async () => {
    const facts = await machine(name);
    const { host, port, user } = facts.ssh;
    expect(
      await overSsh(facts, "true", { host, port, username: user, password: "x", privateKey: "" }),
    ).toBe("All configured authentication methods failed");
  });
});

describe("the machines", () => {
  it("have a host key each", async () => {
    const { machines } = await platform();
    const keys = Object.values(machines).map(({ ssh }) => ssh.hostKey);
    expect(new Set(keys).size).toBe(MACHINES.length);
  });

  it("show of the checkout nothing but programs and images, and those read-only", async () => {
    const facts = await machine("standby");
    expect(await overSsh(facts, "ls /opt/fluxbilling")).toBe("bin\nimages\nprograms");
    expect(await overSsh(facts, "touch /opt/fluxbilling/bin/x 2>&1")).toBe(
      "touch: cannot touch '/opt/fluxbilling/bin/x': Read-only file system",
    );
    expect(await overSsh(facts, `ls -A ${JSON.stringify(process.cwd())}`)).toBe("");
  });

  it("cannot change a kernel setting of the computer", async () => {
    expect(await overSsh(await machine("nl-1"), "echo 1 > /proc/sys/kernel/sysrq; echo $?")).toBe(
      "1",
    );
  });

  it("have PostgreSQL's programs on the standby, whose server is the fleet's to make", async () => {
    expect(
      await overSsh(await machine("standby"), "ls /usr/lib/postgresql/15/bin/pg_basebackup"),
    ).toBe("/usr/lib/postgresql/15/bin/pg_basebackup");
  });
});

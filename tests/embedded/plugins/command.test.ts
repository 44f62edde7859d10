import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import ssh2 from "ssh2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CommandProvider } from "../../../embedded/plugins/command/command-provider.ts";
import type { Properties, Value } from "../../../embedded/plugins/provider.ts";
import { isObject, secret } from "../../../embedded/plugins/values.ts";
import { freePort, startSshd } from "../../support/sshd.ts";
import type { Sshd } from "../../support/sshd.ts";
import { recordedCalls, replay, testContext } from "./replay.ts";
import type { Allowance, Call } from "./replay.ts";

const RANDOM_ID: Allowance = { at: "id", reason: "ids are random", methods: ["Create"] };
const LOCAL = "command:local:Command";
const REMOTE = "command:remote:Command";
const COPY = "command:remote:CopyToRemote";
const CANARY = "canary-5f1b7c";

const plugin = new CommandProvider();

function isPure(call: Call): boolean {
  return !["Create", "Update", "Delete"].includes(call.method) || call.request["preview"] === true;
}

function at(type: string, name = "unit") {
  return { urn: `urn:pulumi:s::p::${type}::${name}`, type, name };
}

async function create(type: string, properties: Properties, lines: string[] = []) {
  return plugin.create({ ...at(type), properties }, testContext(lines));
}

async function update(type: string, olds: Properties, news: Properties) {
  return plugin.update({ ...at(type), id: "unit", olds, news }, testContext());
}

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no failure",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

describe("CommandProvider", () => {
  it("answers every recorded call that touches no machine as the official plugin did", async () => {
    const calls = recordedCalls("command").filter(isPure);
    expect(calls.length).toBe(72);
    expect(await replay(plugin, calls, [RANDOM_ID])).toEqual([]);
  });

  it("names ids as the official plugin does", async () => {
    const { id } = await create(LOCAL, { create: "true" });
    expect(id).toMatch(/^unit[0-9a-f]{8}$/);
  });

  it("fills in a connection's defaults and hides every credential", async () => {
    const { inputs, failures } = await plugin.check({
      ...at(REMOTE),
      news: {
        connection: { host: "h", password: "p", proxy: { host: "b", privateKeyPassword: "q" } },
      },
    });
    expect(failures).toBeUndefined();
    expect(inputs).toEqual({
      connection: secret({
        user: "root",
        password: secret("p"),
        host: "h",
        port: 22,
        dialErrorLimit: 10,
        perDialTimeout: 15,
        proxy: {
          user: "root",
          host: "b",
          port: 22,
          privateKeyPassword: secret("q"),
          dialErrorLimit: 10,
          perDialTimeout: 15,
        },
      }),
    });
  });

  it("names every input that is missing or of the wrong kind", async () => {
    const { failures } = await plugin.check({
      ...at(REMOTE),
      news: { connection: { port: "22" }, logging: "loud", environment: ["A=1"], stdin: 1 },
    });
    expect(failures).toEqual([
      { property: "stdin", reason: "must be a string, got a number" },
      {
        property: "logging",
        reason: "must be one of stdout, stderr, stdoutAndStderr, none, got loud",
      },
      { property: "environment", reason: "must be a map of strings, got a list" },
      { property: "connection.host", reason: "must be given, got nothing" },
      { property: "connection.port", reason: "must be a number, got a string" },
    ]);
  });

  it("refuses a resource type that it does not have", async () => {
    expect(await failure(create("command:remote:CopyFile", {}))).toBe(
      'Resource type "command:remote:CopyFile": the embedded command plugin must know it, got one that it ' +
        "does not have. Use command:local:Command, command:remote:Command, command:remote:CopyToRemote, " +
        "or the official plugin.",
    );
  });

  it("reports what a diff adds, changes and removes, at its innermost path", async () => {
    const olds = {
      create: "a",
      environment: { A: "1", "b.c": "2" },
      stdout: "x",
      triggers: [1, 2],
    };
    const news = { create: "b", environment: { A: "1", "b.c": "3", D: "4" }, triggers: [1] };
    expect(await plugin.diff({ ...at(LOCAL), id: "unit", olds, news })).toEqual({
      changes: "DIFF_SOME",
      diffs: ["create", "environment", "triggers"],
      detailedDiff: {
        create: { kind: "UPDATE" },
        'environment["b.c"]': { kind: "UPDATE" },
        "environment.D": {},
        "triggers[1]": { kind: "DELETE" },
      },
      hasDetailedDiff: true,
    });
    expect(
      await plugin.diff({
        ...at(LOCAL),
        id: "unit",
        olds,
        news,
        ignoreChanges: ["create", "environment", "triggers"],
      }),
    ).toEqual({ changes: "DIFF_NONE", hasDetailedDiff: true });
  });

  it("takes the wire's output values as the values that they hold", async () => {
    const output = (rest: Properties): Properties => ({
      "4dabf18193072939515e22adb298388d": "d0e6a833031e9bbcd3f4e8bde6ca49a4",
      ...rest,
    });
    const { inputs } = await plugin.check({
      ...at(LOCAL),
      news: {
        create: output({ value: "true", dependencies: ["urn"] }),
        stdin: output({ value: "x", secret: true }),
        dir: output({}),
      },
    });
    expect(inputs).toEqual({
      create: "true",
      stdin: secret("x"),
      dir: "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
    });
  });
});

describe("local Command", () => {
  it("runs update after create, and tells each run what the last one printed", async () => {
    const script = 'printf "%s|%s|%s" "$PULUMI_COMMAND_STDOUT" "$PULUMI_COMMAND_STDERR" "$PLAN"';
    const first = await create(LOCAL, { create: "echo one; echo two >&2" });
    expect(first.properties).toEqual({
      create: "echo one; echo two >&2",
      stdout: "one",
      stderr: "two",
    });
    const news = { create: "false", update: script, environment: { PLAN: "pro" } };
    const second = await update(LOCAL, first.properties, news);
    expect(second.properties).toEqual({ ...news, stdout: "one|two|pro", stderr: "" });
    const without = await update(LOCAL, first.properties, {
      ...news,
      addPreviousOutputInEnv: false,
    });
    expect(without.properties["stdout"]).toBe("||pro");
  });

  it("runs create again when there is no update, and keeps what was printed when there is neither", async () => {
    const olds = { create: "echo a", stdout: "a", stderr: "" };
    expect((await update(LOCAL, olds, { create: "echo b" })).properties["stdout"]).toBe("b");
    expect((await update(LOCAL, olds, { triggers: [1] })).properties).toEqual({
      triggers: [1],
      stdout: "a",
      stderr: "",
    });
  });

  it("reads its input, also when that is larger than a pipe, and survives one that is not read", async () => {
    const big = "x".repeat(1_000_000);
    expect((await create(LOCAL, { create: "wc -c", stdin: big })).properties["stdout"]).toBe(
      "1000000",
    );
    expect((await create(LOCAL, { create: "true", stdin: big })).properties["stdout"]).toBe("");
  });

  it("runs in its folder with its interpreter", async () => {
    const { properties } = await create(LOCAL, {
      create: "console.log(process.cwd())",
      dir: "/usr",
      interpreter: [process.execPath, "-e"],
    });
    expect(properties["stdout"]).toBe("/usr");
  });

  it("fails with the script and its output, every secret masked", async () => {
    const lines: string[] = [];
    const message = await failure(
      create(
        LOCAL,
        {
          create: secret(`cat; echo ${CANARY}-in-script >&2; exit 3`),
          stdin: `${CANARY}-plain-stdin`,
          environment: { TOKEN: secret(`${CANARY}-token`) },
        },
        lines,
      ),
    );
    expect(message).toBe('exit status 3: running "[secret]":\n[secret]' + `${CANARY}-in-script\n`);
    expect(lines).toEqual([`status: [secret]${CANARY}-in-script`]);
    const quoted = await failure(
      create(LOCAL, {
        create: `sh -c 'cat; echo "$TOKEN"; echo ${CANARY}; exit 4'`,
        stdin: secret(`${CANARY}-stdin\nsecond line`),
        environment: { TOKEN: secret(CANARY) },
      }),
    );
    expect(quoted).not.toContain(CANARY);
    expect(quoted).not.toContain("second line");
    expect(quoted).toMatch(/^exit status 4: running "sh -c 'cat; echo .* exit 4'":\n/);
  });

  it("prints to the display what logging allows", async () => {
    const said = async (logging?: Value) => {
      const lines: string[] = [];
      await create(
        LOCAL,
        { create: "echo out; echo err >&2", ...(logging === undefined ? {} : { logging }) },
        lines,
      );
      return lines.sort();
    };
    expect(await said()).toEqual(["status: err", "status: out"]);
    expect(await said("stdoutAndStderr")).toEqual(["status: err", "status: out"]);
    expect(await said("stdout")).toEqual(["status: out"]);
    expect(await said("stderr")).toEqual(["status: err"]);
    expect(await said("none")).toEqual([]);
  });

  it("refuses the asset outputs that it does not have", async () => {
    expect(await failure(create(LOCAL, { create: "true", assetPaths: ["*"] }))).toBe(
      "Command: assetPaths must be absent with the embedded command plugin, got a list. " +
        "Print what you need to stdout, or use the official plugin.",
    );
  });

  it("is killed when the engine cancels", async () => {
    const cancelled = new AbortController();
    const running = plugin.create(
      { ...at(LOCAL), properties: { create: "sleep 60" } },
      { ...testContext(), signal: cancelled.signal },
    );
    setTimeout(() => cancelled.abort(), 50);
    expect(await failure(running)).toBe('cancelled: running "sleep 60":\n');
  });

  it("runs as a function too", async () => {
    expect(
      await plugin.invoke(
        { tok: "command:local:run", args: { command: "cat", stdin: "x" } },
        testContext(),
      ),
    ).toEqual({ return: { command: "cat", stdin: "x", stdout: "x", stderr: "" } });
  });
});

describe("commands on a real host", () => {
  let host: Sshd;
  let connection: Properties;

  beforeAll(async () => {
    host = await startSshd(["PLAN", "PULUMI_COMMAND_STDOUT"]);
    connection = {
      host: host.host,
      port: host.port,
      user: host.user,
      privateKey: host.privateKey,
      hostKey: host.hostKey,
      dialErrorLimit: 0,
    };
  });
  afterAll(async () => host.stop());

  /** The recording's host replaced by the one that runs here. */
  function moved<T extends Value | undefined>(value: T): T {
    if (Array.isArray(value)) return value.map(moved) as T;
    if (!isObject(value)) return value;
    const entries = Object.entries(value).map(([key, inner]): [string, Value] => [
      key,
      moved(inner),
    ]);
    const copy = Object.fromEntries(entries);
    if ("hostKey" in copy) {
      Object.assign(copy, { port: host.port, hostKey: host.hostKey });
      copy["privateKey"] = isObject(copy["privateKey"]) ? secret(host.privateKey) : host.privateKey;
    }
    return copy as T;
  }

  it("answers every recorded create, update and delete as the official plugin did", async () => {
    const calls = recordedCalls("command")
      .filter((call) => !isPure(call))
      .map((call) => ({
        ...call,
        request: moved(call.request),
        response: moved(call.response),
      }));
    expect(calls.length).toBe(11);
    const transferStart = join(host.folder, "golden-copied.txt");
    expect(await replay(plugin, calls, [RANDOM_ID])).toEqual([]);
    expect(await readFile(transferStart, "utf8")).toBe("two\n");
  });

  it("passes variables that the host accepts and fails before the command when it does not", async () => {
    const good = await create(REMOTE, {
      connection,
      create: 'printf %s "$PLAN"',
      environment: { PLAN: "pro" },
      logging: "none",
    });
    expect(good.properties["stdout"]).toBe("pro");
    const marker = join(host.folder, "must-not-exist");
    const message = await failure(
      create(REMOTE, {
        connection,
        create: `touch ${marker}`,
        environment: { PLAN: "pro", OTHER: secret(CANARY) },
      }),
    );
    expect(message).toBe(
      'Variable "OTHER": the host must accept it, got a refusal. Add AcceptEnv OTHER to its sshd_config, ' +
        "or prefix the command with NAME=value.",
    );
    await expect(readFile(marker)).rejects.toThrow("ENOENT");
  });

  it("only warns when the host does not take the previous output", async () => {
    const lines: string[] = [];
    const { properties } = await plugin.update(
      {
        ...at(REMOTE),
        id: "unit",
        olds: { connection, stdout: "before", stderr: "noise" },
        news: { connection, create: 'printf %s "$PULUMI_COMMAND_STDOUT"', logging: "none" },
      },
      testContext(lines),
    );
    expect(properties["stdout"]).toBe("before");
    expect(lines).toEqual([
      "warning: Unable to set 'PULUMI_COMMAND_STDERR'. This only works if the host's sshd accepts it via " +
        "AcceptEnv. Set addPreviousOutputInEnv to false to do without.",
    ]);
  });

  it("refuses a host that shows another key than the pinned one", async () => {
    const other = ssh2.utils.generateKeyPairSync("ed25519").public;
    const message = await failure(
      create(REMOTE, { connection: { ...connection, hostKey: other }, create: "true" }),
    );
    expect(message).toBe(
      `Host "root@127.0.0.1:${host.port}": must be reachable over SSH, got 1 failed dials, the last: ` +
        "Host denied (verification failed). Check that the host is up, its hostKey and the credentials.",
    );
  });

  it("refuses keys that cannot be read, without showing them", async () => {
    const bad = `-----BEGIN OPENSSH PRIVATE KEY-----\n${CANARY}\n-----END OPENSSH PRIVATE KEY-----\n`;
    const privateKey = await failure(
      create(REMOTE, { connection: { ...connection, privateKey: bad }, create: "true" }),
    );
    expect(privateKey).toContain("privateKey must be a private key that privateKeyPassword opens");
    expect(privateKey).not.toContain(CANARY);
    expect(
      await failure(
        create(REMOTE, { connection: { ...connection, hostKey: CANARY }, create: "true" }),
      ),
    ).toBe(
      `Host "root@127.0.0.1:${host.port}": hostKey must be a line like ssh-ed25519 AAAA…, got something ` +
        "else. Take it from /etc/ssh/ssh_host_ed25519_key.pub of the host.",
    );
  });

  it("fails with the script and its output, every secret masked", async () => {
    const message = await failure(
      create(REMOTE, {
        connection: secret(connection),
        create: "cat; echo problem >&2; exit 5",
        stdin: secret(CANARY),
        logging: "none",
      }),
    );
    expect(message).toBe(
      'Process exited with status 5: running "cat; echo problem >&2; exit 5":\n[secret]problem\n',
    );
  });

  it("tells a killed command from one that failed", async () => {
    expect(await failure(create(REMOTE, { connection, create: "kill -9 $$" }))).toBe(
      'Process exited with signal SIGKILL: running "kill -9 $$":\n',
    );
  });

  it("passes large input and output whole", async () => {
    const { properties } = await create(REMOTE, {
      connection,
      create: "cat",
      stdin: "y".repeat(3_000_000),
      logging: "none",
    });
    expect(properties["stdout"]).toBe("y".repeat(3_000_000));
  });

  it("deletes with the connection that was recorded", async () => {
    const marker = join(host.folder, "deleted");
    await plugin.delete(
      {
        ...at(REMOTE),
        id: "unit",
        properties: {
          connection: secret(connection),
          delete: `touch ${marker}`,
          stdout: "",
          stderr: "",
        },
      },
      testContext(),
    );
    expect(await readFile(marker, "utf8")).toBe("");
  });

  it("goes through a bastion", async () => {
    const { properties } = await create(REMOTE, {
      connection: { ...connection, proxy: connection },
      create: "echo through",
      logging: "none",
    });
    expect(properties["stdout"]).toBe("through");
  });

  it("retries a host that is not up yet", async () => {
    const port = await freePort();
    const server = new ssh2.Server({
      hostKeys: [ssh2.utils.generateKeyPairSync("ed25519").private],
    });
    server.on("connection", (client) => {
      client.on("error", () => {});
      client.on("authentication", (attempt) => {
        if (attempt.method === "password" && attempt.password === CANARY) attempt.accept();
        else attempt.reject(["password"]);
      });
      client.on("session", (accept) => {
        accept().on("exec", (run, _reject, info) => {
          const channel = run();
          channel.write(info.command);
          channel.exit(0);
          channel.end();
        });
      });
    });
    setTimeout(() => server.listen(port, "127.0.0.1"), 150);
    const lines: string[] = [];
    const { properties } = await create(
      REMOTE,
      { connection: { host: "127.0.0.1", port, password: CANARY }, create: "echo hello" },
      lines,
    );
    server.close();
    expect(properties["stdout"]).toBe("echo hello");
    expect(lines).toContain("status: Dial 1/10 failed: retrying");
  });

  it("gives up a host that never answers, at once when the engine cancels", async () => {
    const port = await freePort();
    const cancelled = new AbortController();
    const dialing = plugin.create(
      {
        ...at(REMOTE),
        properties: { connection: { host: "127.0.0.1", port, dialErrorLimit: -1 }, create: "true" },
      },
      { ...testContext(), signal: cancelled.signal },
    );
    setTimeout(() => cancelled.abort(new Error("cancelled by the engine")), 50);
    expect(await failure(dialing)).not.toBe("no failure");
  });

  it("copies text, files and folders by the official rules", async () => {
    const local = join(host.folder, "source");
    await mkdir(join(local, "inner"), { recursive: true });
    await writeFile(join(local, "a.txt"), "a");
    await writeFile(join(local, "inner", "b.txt"), "b");
    const asset = (rest: Properties): Properties => ({
      "4dabf18193072939515e22adb298388d": "c44067f5952c0a294b673a41bacd8c17",
      hash: CANARY,
      ...rest,
    });
    const archive = (path: string): Properties => ({
      "4dabf18193072939515e22adb298388d": "0def7320c3a5731c473e5ecbe6d01bc7",
      hash: CANARY,
      path,
    });
    const copy = (source: Properties, remotePath: string) =>
      create(COPY, { connection, source, remotePath });
    const remote = (...path: string[]) => join(host.folder, "remote", ...path);

    const { id } = await copy(archive(local), "remote");
    expect(id).toMatch(/^[0-9a-f]{8}$/);
    expect(await readFile(remote("source", "inner", "b.txt"), "utf8")).toBe("b");
    await copy(archive(`${local}/`), "remote");
    expect(await readFile(remote("a.txt"), "utf8")).toBe("a");
    await copy(asset({ path: join(local, "a.txt") }), "remote/inner");
    expect(await readFile(remote("inner", "a.txt"), "utf8")).toBe("a");
    await copy(asset({ text: "new" }), remote("a.txt"));
    expect(await readFile(remote("a.txt"), "utf8")).toBe("new");

    expect(await failure(copy(asset({ text: "x" }), "remote"))).toBe(
      "CopyToRemote \"remote\": a text asset's remotePath must be a file, got a folder. Add the file's name to it.",
    );
    expect(await failure(copy(archive(local), "remote/a.txt"))).toBe(
      'CopyToRemote "remote/a.txt": the path must be a folder or not exist, got a file. ' +
        "Choose another remotePath, or remove the file.",
    );
    expect(await failure(copy(asset({ text: "x" }), "no/such/file"))).toBe(
      'CopyToRemote "no/such/file": the host must let its user write it, got No such file. ' +
        "Check that the parent folder exists and the user's rights.",
    );
  });

  it("copies again only when content or path changed", async () => {
    const source = (hash: string, text: string): Properties => ({
      "4dabf18193072939515e22adb298388d": "c44067f5952c0a294b673a41bacd8c17",
      hash,
      text,
    });
    const path = join(host.folder, "again.txt");
    const olds = { connection, source: source("1", "one"), remotePath: path };
    await create(COPY, olds);
    await writeFile(path, "by hand");
    await update(COPY, olds, { ...olds, triggers: [1] });
    expect(await readFile(path, "utf8")).toBe("by hand");
    await update(COPY, olds, { ...olds, source: source("2", "two") });
    expect(await readFile(path, "utf8")).toBe("two");
  });

  it("refuses hosts and bastions that are no embedded machines", async () => {
    const refused = (host: string) =>
      `Provider "command": an embedded plugin must only reach loopback or the embedded machines, got ${host}. ` +
      "Use the official provider plugin for it, or list an embedded machine's address in FLUX_EMBEDDED_ADDRESSES.";
    expect(
      await failure(
        create(REMOTE, { connection: { ...connection, host: "192.0.2.1" }, create: "true" }),
      ),
    ).toBe(refused("192.0.2.1"));
    expect(
      await failure(
        create(REMOTE, {
          connection: { ...connection, proxy: { host: "192.0.2.2" } },
          create: "true",
        }),
      ),
    ).toBe(refused("192.0.2.2"));
  });
});

/** SSH connections of the command plugin: pinned host keys, retried dials, bastions, commands and file transfer. */
import { setTimeout as sleep } from "node:timers/promises";
import ssh2 from "ssh2";
import type { Client, ClientChannel, ConnectConfig, SFTPWrapper } from "ssh2";
import { assertEmbeddedEndpoint } from "../endpoint.ts";
import type { CallContext } from "../provider.ts";

/** How to reach one host; what `connection` and its `proxy` say, defaults filled in. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password?: string;
  readonly privateKey?: string;
  readonly privateKeyPassword?: string;
  /** A line as in `ssh_host_*_key.pub`; without it any host key is taken. */
  readonly hostKey?: string;
  /** Failed dials that are tolerated; -1 tolerates any number. */
  readonly dialErrorLimit: number;
  /** Seconds for one dial; 0 waits forever. */
  readonly perDialTimeout: number;
}
export interface Connection extends Endpoint {
  readonly proxy?: Endpoint;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const PAUSE_GROWTH = 1.5;

function where(endpoint: Endpoint): string {
  return `Host "${endpoint.user}@${endpoint.host}:${endpoint.port}"`;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The key of an authorized-keys line: its algorithm and its bytes as the host sends them. */
function parseHostKey(endpoint: Endpoint, line: string): { algorithm: string; key: Buffer } {
  const words = line.trim().split(/\s+/);
  const at = words.findIndex((word) => /^(ssh-|ecdsa-|sk-)/.test(word));
  const algorithm = words[at] ?? "";
  const key = Buffer.from(words[at + 1] ?? "", "base64");
  if (at < 0 || key.length < 4 + algorithm.length) {
    throw new Error(
      `${where(endpoint)}: hostKey must be a line like ssh-ed25519 AAAA…, got something else. ` +
        `Take it from /etc/ssh/ssh_host_ed25519_key.pub of the host.`,
    );
  }
  return { algorithm, key };
}

function connectConfig(endpoint: Endpoint): ConnectConfig {
  const config: ConnectConfig = {
    host: endpoint.host,
    port: endpoint.port,
    username: endpoint.user,
    readyTimeout: endpoint.perDialTimeout * 1_000,
  };
  const methods: ("publickey" | "password" | "keyboard-interactive")[] = [];
  if (endpoint.privateKey !== undefined) {
    const parsed = ssh2.utils.parseKey(endpoint.privateKey, endpoint.privateKeyPassword);
    if (parsed instanceof Error) {
      throw new Error(
        `${where(endpoint)}: privateKey must be a private key that privateKeyPassword opens, ` +
          `got one that cannot be read (${parsed.message}). Give the whole file's text.`,
      );
    }
    config.privateKey = endpoint.privateKey;
    if (endpoint.privateKeyPassword !== undefined) config.passphrase = endpoint.privateKeyPassword;
    methods.push("publickey");
  }
  if (endpoint.password !== undefined) {
    config.password = endpoint.password;
    config.tryKeyboard = true;
    methods.push("password", "keyboard-interactive");
  }
  config.authHandler = methods;
  if (endpoint.hostKey !== undefined) {
    const pinned = parseHostKey(endpoint, endpoint.hostKey);
    config.hostVerifier = (key: Buffer) => key.equals(pinned.key);
    // A host has several keys: without this it would show another one than the pinned.
    config.algorithms = {
      serverHostKey: (pinned.algorithm === "ssh-rsa"
        ? ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]
        : [pinned.algorithm]) as NonNullable<ConnectConfig["algorithms"]>["serverHostKey"] & object,
    };
  }
  return config;
}

/** Dials until it works, the limit of failures is passed, or the engine cancels. */
async function withRetries<T>(
  endpoint: Endpoint,
  context: CallContext,
  dial: () => Promise<T>,
): Promise<T> {
  let pauseMs = FIRST_PAUSE_MS;
  for (let failures = 1; ; failures += 1) {
    try {
      return await dial();
    } catch (error) {
      context.signal.throwIfAborted();
      if (endpoint.dialErrorLimit >= 0 && failures > endpoint.dialErrorLimit) {
        throw new Error(
          `${where(endpoint)}: must be reachable over SSH, got ${failures} failed dials, the last: ` +
            `${message(error)}. Check that the host is up, its hostKey and the credentials.`,
          { cause: error },
        );
      }
      const limit = endpoint.dialErrorLimit < 0 ? "inf" : endpoint.dialErrorLimit;
      context.status(`Dial ${failures}/${limit} failed: retrying`);
      await sleep(pauseMs, undefined, { signal: context.signal });
      pauseMs = Math.min(pauseMs * PAUSE_GROWTH, LONGEST_PAUSE_MS);
    }
  }
}

async function dialOnce(config: ConnectConfig, password: string | undefined): Promise<Client> {
  const client = new ssh2.Client();
  try {
    await new Promise<void>((resolve, reject) => {
      client
        // SSH writes small packets: without this, each waits 40 ms for the acknowledgement of the one before.
        .once("connect", () => client.setNoDelay(true))
        .once("ready", resolve)
        .once("error", reject)
        .once("close", () => reject(new Error("the host closed the connection")))
        .on("keyboard-interactive", (_name, _instructions, _language, prompts, answer) =>
          answer(prompts.map(() => password ?? "")),
        )
        .connect(config);
    });
  } catch (error) {
    client.on("error", () => {});
    client.destroy();
    throw error;
  }
  return client;
}

/**
 * Runs `work` on a connection of its own, as the official plugin does, and closes it.
 *
 * @throws Error when host or bastion is no embedded machine, a key cannot be read, or no dial succeeds.
 */
export async function withConnection<T>(
  connection: Connection,
  context: CallContext,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const { proxy } = connection;
  await assertEmbeddedEndpoint("command", connection.host);
  if (proxy !== undefined) await assertEmbeddedEndpoint("command", proxy.host);
  const config = connectConfig(connection);
  const bastion =
    proxy === undefined
      ? undefined
      : await withRetries(proxy, context, () => dialOnce(connectConfig(proxy), proxy.password));
  try {
    const client = await withRetries(connection, context, async () => {
      if (bastion === undefined) return dialOnce(config, connection.password);
      const sock = await new Promise<ClientChannel>((resolve, reject) => {
        bastion.forwardOut("127.0.0.1", 0, connection.host, connection.port, (error, channel) => {
          if (error === undefined) resolve(channel);
          else reject(error);
        });
      });
      return dialOnce({ ...config, sock }, connection.password);
    });
    const stop = () => client.destroy();
    context.signal.addEventListener("abort", stop);
    try {
      let fail: (error: Error) => void = () => {};
      const lost = new Promise<never>((_resolve, reject) => {
        fail = reject;
      });
      client.on("error", (error) => fail(error));
      client.once("close", () => {
        fail(new Error(`${where(connection)}: the connection was lost. Run the command again.`));
      });
      return await Promise.race([work(client), lost]);
    } finally {
      context.signal.removeEventListener("abort", stop);
      client.end();
    }
  } finally {
    bastion?.end();
  }
}

/** One variable for a remote command; a host that does not accept a required one fails the command. */
export interface RemoteVariable {
  readonly name: string;
  readonly value: string;
  readonly required: boolean;
}

export interface RemoteResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Both, in the order of arrival: for the error of a failed command. */
  readonly output: string;
  /** Absent when the command ended well; else how it ended. */
  readonly failure?: string;
}

/**
 * Runs one command.
 *
 * @param input what the command reads; empty: nothing.
 * @param onOutput every piece of output as it arrives.
 */
export async function execute(
  client: Client,
  command: string,
  variables: readonly RemoteVariable[],
  input: string,
  context: CallContext,
  onOutput: (stream: "stdout" | "stderr", text: string) => void,
): Promise<RemoteResult> {
  sendVariablesBeforeCommands(client, variables, context);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const output: Buffer[] = [];
  const collect = (stream: "stdout" | "stderr", into: Buffer[]) => (chunk: Buffer) => {
    into.push(chunk);
    output.push(chunk);
    onOutput(stream, chunk.toString("utf8"));
  };
  const failure = await new Promise<string | undefined>((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error !== undefined) {
        reject(error);
        return;
      }
      // All listeners at once: a short command's end may already be in the same packet.
      let ended: string | undefined = "the command ended without an exit status";
      channel.on("data", collect("stdout", stdout));
      channel.stderr.on("data", collect("stderr", stderr));
      channel.on("exit", (code: number | null, signal?: string) => {
        if (code === 0) ended = undefined;
        else if (code === null) ended = `Process exited with signal ${signal ?? "unknown"}`;
        else ended = `Process exited with status ${code}`;
      });
      channel.once("close", () => resolve(ended));
      // A command that does not read its input closes it early: that is no failure of the command.
      channel.on("error", () => {});
      channel.end(input);
    });
  });
  return {
    stdout: Buffer.concat(stdout).toString("utf8"),
    stderr: Buffer.concat(stderr).toString("utf8"),
    output: Buffer.concat(output).toString("utf8"),
    ...(failure === undefined ? {} : { failure }),
  };
}

/** The parts of ssh2's client that its types leave out; the tests hold them. */
interface Wire {
  readonly _protocol: {
    env(recipient: number, name: string, value: string, wantReply: boolean): void;
    exec(recipient: number, command: string, wantReply: boolean): void;
  };
  readonly _chanMgr: {
    readonly _channels: {
      readonly [id: string]: {
        readonly outgoing: { readonly id: number };
        readonly _callbacks: ((error: unknown) => void)[];
      };
    };
  };
}

/**
 * ssh2 sends variables without asking whether the host took them. A command that runs without a variable that it
 * was promised may do harm, so each is sent with a reply wanted, and the command only after the replies.
 */
function sendVariablesBeforeCommands(
  client: Client,
  variables: readonly RemoteVariable[],
  context: CallContext,
): void {
  const { _protocol: protocol, _chanMgr: channels } = client as unknown as Wire;
  if (variables.length === 0) return;
  const exec = protocol.exec.bind(protocol);
  protocol.exec = (recipient, command, wantReply) => {
    const channel = Object.values(channels._channels).find((c) => c.outgoing?.id === recipient);
    const executed = channel?._callbacks.pop();
    if (channel === undefined || executed === undefined) {
      throw new Error("ssh2: the channel of a command must be known, got none. Pin ssh2 1.17.0.");
    }
    let waiting = variables.length;
    const refused: string[] = [];
    const replied = () => {
      waiting -= 1;
      if (waiting > 0) return;
      if (refused.length > 0) {
        executed(
          new Error(
            `Variable "${refused.join('", "')}": the host must accept it, got a refusal. Add AcceptEnv ` +
              `${refused.join(" ")} to its sshd_config, or prefix the command with NAME=value.`,
          ),
        );
        return;
      }
      channel._callbacks.push(executed);
      exec(recipient, command, wantReply);
    };
    for (const { name, value, required } of variables) {
      channel._callbacks.push((error) => {
        if (error && required) refused.push(name);
        else if (error) {
          context.log(
            "warning",
            `Unable to set '${name}'. This only works if the host's sshd accepts it via AcceptEnv. ` +
              `Set addPreviousOutputInEnv to false to do without.`,
          );
        }
        replied();
      });
      protocol.env(recipient, name, value, true);
    }
  };
}

/** Opens the host's file transfer. */
export async function openSftp(client: Client): Promise<SFTPWrapper> {
  return new Promise((resolve, reject) => {
    client.sftp((error, sftp) => {
      if (error === undefined) resolve(sftp);
      else reject(error);
    });
  });
}

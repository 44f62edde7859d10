/**
 * What runs inside a test pod: echo servers, and a client that the test drives over IPC.
 *
 * Every question carries a number, and its answer the same number.
 */
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";

export interface Target {
  readonly protocol: "TCP" | "UDP";
  readonly address: string;
  readonly port: number;
}

export type Request =
  | { readonly kind: "listen"; readonly port: number }
  /** Sends a token to each target from fresh sockets; answered at once. */
  | { readonly kind: "send"; readonly probes: readonly (Target & { readonly token: string })[] }
  /** Which tokens came back, since the last `close`, to this pod's own probes. */
  | { readonly kind: "echoed" }
  /** Which tokens ever reached this pod's servers. */
  | { readonly kind: "received" }
  | { readonly kind: "close" }
  /** Opens a connection that stays; answered once its first token has come back. */
  | { readonly kind: "hold"; readonly target: Target }
  /** Sends a token over the connection held; it shows among the echoed when it returns. */
  | { readonly kind: "say"; readonly token: string }
  /** As server: sends a token, unasked, to whoever spoke last. */
  | { readonly kind: "push"; readonly protocol: "TCP" | "UDP"; readonly token: string };

export interface Question {
  readonly number: number;
  readonly request: Request;
}

export interface Answer {
  readonly number: number;
  readonly tokens: readonly string[];
  readonly error?: string;
}

const echoed = new Set<string>();
const received = new Set<string>();
const closers = new Set<() => void>();
let say: (token: string) => void = () => {
  throw new Error("nothing is held");
};
const pushers: Partial<Record<"TCP" | "UDP", (token: string) => void>> = {};

/** Tokens are lines: one segment may carry several, and one token may come in two. */
function onLines(socket: Socket, take: (line: string) => void): void {
  let rest = "";
  socket.on("data", (chunk) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(take);
  });
}

async function listen(port: number): Promise<void> {
  const tcp = createServer((socket) => {
    pushers.TCP = (token) => socket.write(`${token}\n`);
    socket.on("error", () => socket.destroy());
    onLines(socket, (line) => {
      received.add(line);
      socket.write(`${line}\n`);
    });
  });
  const udp = createSocket({ type: "udp6" });
  udp.on("message", (message, from) => {
    pushers.UDP = (token) => udp.send(token, from.port, from.address);
    received.add(message.toString());
    udp.send(message, from.port, from.address);
  });
  await Promise.all([
    new Promise<void>((resolve, reject) => tcp.on("error", reject).listen(port, "::", resolve)),
    new Promise<void>((resolve, reject) => {
      udp.on("error", reject);
      udp.bind(port, "::", resolve);
    }),
  ]);
}

/** A client of one target: returns how to send a token and how to end it. */
function open(target: Target): { send: (token: string) => void; close: () => void } {
  if (target.protocol === "TCP") {
    const socket = connect({ host: target.address, port: target.port, noDelay: true });
    socket.on("error", () => socket.destroy());
    onLines(socket, (line) => echoed.add(line));
    return {
      send: (token) => socket.write(`${token}\n`),
      // A reset of a socket that is still connecting would keep it trying, into the next test.
      close: () => (socket.connecting ? socket.destroy() : socket.resetAndDestroy()),
    };
  }
  const socket = createSocket(target.address.includes(":") ? "udp6" : "udp4");
  socket.on("error", () => undefined);
  socket.on("message", (message) => echoed.add(message.toString()));
  return {
    send: (token) => socket.send(token, target.port, target.address),
    close: () => socket.close(),
  };
}

async function answer(request: Request): Promise<readonly string[]> {
  switch (request.kind) {
    case "listen":
      await listen(request.port);
      return [];
    case "send":
      for (const probe of request.probes) {
        const client = open(probe);
        closers.add(client.close);
        client.send(probe.token);
      }
      return [];
    case "echoed":
      return [...echoed];
    case "received":
      return [...received];
    case "close":
      for (const close of closers) close();
      closers.clear();
      echoed.clear();
      return [];
    case "hold": {
      const client = open(request.target);
      closers.add(client.close);
      say = client.send;
      return [];
    }
    case "say":
      say(request.token);
      return [];
    case "push": {
      const push = pushers[request.protocol];
      if (push === undefined) throw new Error(`nobody spoke ${request.protocol} yet`);
      push(request.token);
      return [];
    }
  }
}

process.on("message", (question: Question) => {
  const reply = (tokens: readonly string[], error?: string): void => {
    const message: Answer = {
      number: question.number,
      tokens,
      ...(error === undefined ? {} : { error }),
    };
    process.send?.(message);
  };
  answer(question.request).then(
    (tokens) => reply(tokens),
    (error: unknown) => reply([], String(error)),
  );
});
process.on("disconnect", () => process.exit(0));

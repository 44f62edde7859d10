/**
 * Runs inside the operator's namespace with the doors' listening sockets as descriptors 3, 4, …: what is accepted
 * there is connected to the machine behind the door.
 */
import { connect, createServer } from "node:net";

import type { Door } from "./doors.ts";

const FIRST_DESCRIPTOR = 3;

const doors = JSON.parse(process.argv[2] ?? "[]") as Door[];

doors.forEach((door, index) => {
  const server = createServer({ allowHalfOpen: true }, (visitor) => {
    const host = connect({ host: door.targetHost, port: door.targetPort, allowHalfOpen: true });
    visitor.on("error", () => host.destroy());
    host.on("error", () => visitor.destroy());
    visitor.pipe(host);
    host.pipe(visitor);
  });
  server.listen({ fd: FIRST_DESCRIPTOR + index });
});

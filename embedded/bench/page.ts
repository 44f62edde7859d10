/**
 * Waits until a host answers over TLS 1.3 with a page. Run inside the operator's namespace.
 *
 * Arguments: the ingress's address, the host.
 */
import { request } from "node:https";

const [, , address = "", host = ""] = process.argv;
const POLL_MS = 20;

while ((await status()) !== 200) await new Promise((resolve) => setTimeout(resolve, POLL_MS));

/** What it answers; 0 where it does not yet. */
function status(): Promise<number> {
  return new Promise((resolve) => {
    const call = request({
      host: address,
      servername: host,
      headers: { host },
      agent: false,
      minVersion: "TLSv1.3",
      // The fleet's own authority; whether it is the right one is a test's question.
      rejectUnauthorized: false,
    });
    call.once("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    call.once("error", () => {
      resolve(0);
    });
    call.end();
  });
}

/**
 * The guard that keeps the embedded plugins away from production: they talk to this machine and to the embedded
 * machines, and to nothing else.
 */
import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";

/** Names the embedded machines' addresses and networks (CIDR), comma separated. */
export const EMBEDDED_ADDRESSES = "FLUX_EMBEDDED_ADDRESSES";

function allowedAddresses(): BlockList {
  const allowed = new BlockList();
  allowed.addSubnet("127.0.0.0", 8, "ipv4");
  allowed.addAddress("::1", "ipv6");
  for (const entry of (process.env[EMBEDDED_ADDRESSES] ?? "").split(",")) {
    const text = entry.trim();
    if (text === "") continue;
    const [address = "", prefix] = text.split("/");
    const family = isIP(address);
    const longest = family === 6 ? 128 : 32;
    const bits = prefix === undefined ? longest : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1;
    if (family === 0 || bits < 0 || bits > longest) {
      throw new Error(
        `Environment "${EMBEDDED_ADDRESSES}": every entry must be an address or a CIDR, got ${text}. ` +
          `Set it like 10.99.0.2,10.99.0.0/24.`,
      );
    }
    allowed.addSubnet(address, bits, family === 6 ? "ipv6" : "ipv4");
  }
  return allowed;
}

function isAllowed(allowed: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && allowed.check(address, family === 6 ? "ipv6" : "ipv4");
}

/**
 * Refuses an endpoint that is neither loopback, a unix socket (a path), nor listed in `FLUX_EMBEDDED_ADDRESSES`.
 * A name passes only when every address that it resolves to is allowed.
 *
 * @param provider the plugin's name, for the message.
 * @param host an address (IPv6 with or without brackets), a name or a socket's path, without port.
 * @throws Error with one sentence that names the endpoint and the way out.
 */
export async function assertEmbeddedEndpoint(provider: string, host: string): Promise<void> {
  if (host.startsWith("/")) return;
  const name = host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  if (name === "localhost") return;
  const allowed = allowedAddresses();
  const addresses =
    isIP(name) !== 0 || name === ""
      ? [name]
      : await lookup(name, { all: true }).then(
          (all) => all.map((entry) => entry.address),
          () => [],
        );
  if (addresses.length > 0 && addresses.every((address) => isAllowed(allowed, address))) return;
  throw new Error(
    `Provider "${provider}": an embedded plugin must only reach loopback or the embedded machines, got ` +
      `${host === "" ? "no host" : host}. ` +
      `Use the official provider plugin for it, or list an embedded machine's address in ${EMBEDDED_ADDRESSES}.`,
  );
}

import { afterEach, describe, expect, it, vi } from "vitest";
import { assertEmbeddedEndpoint } from "../../../embedded/plugins/endpoint.ts";

async function verdict(host: string): Promise<string> {
  return assertEmbeddedEndpoint("unit", host).then(
    () => "allowed",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

function refusal(host: string): string {
  return (
    `Provider "unit": an embedded plugin must only reach loopback or the embedded machines, got ${host}. ` +
    "Use the official provider plugin for it, or list an embedded machine's address in FLUX_EMBEDDED_ADDRESSES."
  );
}

describe("assertEmbeddedEndpoint", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("allows this machine and unix sockets", async () => {
    vi.stubEnv("FLUX_EMBEDDED_ADDRESSES", undefined);
    for (const host of ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "/run/postgresql"]) {
      expect(await verdict(host)).toBe("allowed");
    }
  });

  it("refuses every other address, written in whatever way", async () => {
    vi.stubEnv("FLUX_EMBEDDED_ADDRESSES", undefined);
    for (const host of ["192.0.2.1", "10.77.0.2", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0"]) {
      expect(await verdict(host)).toBe(refusal(host));
    }
    expect(await verdict("")).toBe(refusal("no host"));
  });

  it("allows the embedded machines that the environment lists, and only them", async () => {
    vi.stubEnv("FLUX_EMBEDDED_ADDRESSES", "10.77.0.0/24, 2001:db8::/64,192.0.2.9");
    for (const host of ["10.77.0.2", "2001:db8::7", "192.0.2.9"]) {
      expect(await verdict(host)).toBe("allowed");
    }
    for (const host of ["10.77.1.2", "2001:db8:1::7", "192.0.2.10"]) {
      expect(await verdict(host)).toBe(refusal(host));
    }
  });

  it("refuses a name that resolves to nothing", async () => {
    expect(await verdict("no-such-host.invalid")).toBe(refusal("no-such-host.invalid"));
  });

  it("refuses a list that it cannot read, rather than to read it otherwise", async () => {
    for (const entry of ["10.77.0.0/33", "10.77.0.x", "10.77.0.0/", "example.org"]) {
      vi.stubEnv("FLUX_EMBEDDED_ADDRESSES", entry);
      expect(await verdict("192.0.2.1")).toBe(
        `Environment "FLUX_EMBEDDED_ADDRESSES": every entry must be an address or a CIDR, got ${entry}. ` +
          "Set it like 10.99.0.2,10.99.0.0/24.",
      );
    }
  });
});

import { describe, expect, it } from "vitest";
import { parseImage } from "../../model/image.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

describe("parseImage", () => {
  it("takes a reference by digest apart", () => {
    expect(parseImage(`registry.test:5000/fluxbilling/tenant-app@${DIGEST}`)).toEqual({
      registry: "registry.test:5000",
      repository: "fluxbilling/tenant-app",
      digest: DIGEST,
    });
  });

  it.each([
    "registry.test/app",
    "registry.test/app:1",
    `registry.test/app:1@${DIGEST}`,
    `app@${DIGEST}`,
    `registry.test/app@sha256:${"a".repeat(63)}`,
    `registry.test/app@${DIGEST} `,
    `registry.test/../app@${DIGEST}`,
  ])("refuses %j", (text) => {
    expect(parseImage(text)).toBeUndefined();
  });
});

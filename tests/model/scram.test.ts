import { describe, expect, it } from "vitest";
import { scramSalt, scramVerifier } from "../../model/scram.ts";

describe("scramVerifier", () => {
  it("gives the keys of RFC 7677's example in PostgreSQL's form", () => {
    const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
    expect(scramVerifier("pencil", salt, 4096)).toBe(
      "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    );
  });

  it("gives the same verifier for the same password and role", () => {
    expect(scramVerifier("secret", scramSalt("app_acme"))).toBe(
      scramVerifier("secret", scramSalt("app_acme")),
    );
  });

  it("refuses a password that SASLprep could change, without repeating it", () => {
    expect(() => scramVerifier("pässword", scramSalt("app_acme"))).toThrow(
      new RangeError("a password for SCRAM must be printable ASCII"),
    );
  });
});

describe("scramSalt", () => {
  it("is sixteen bytes that differ between roles", () => {
    expect(scramSalt("app_acme")).toHaveLength(16);
    expect(scramSalt("app_acme")).not.toEqual(scramSalt("backup_acme"));
  });
});

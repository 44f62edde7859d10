import { describe, expect, it } from "vitest";

import { ageRecipient, makeAgeIdentity } from "../../embedded/age-key.ts";
import { BACKUP_KEY } from "../../model/backup-store.ts";

describe("a backup key", () => {
  it("has the public half that age's own library gives it", () => {
    expect(
      ageRecipient("AGE-SECRET-KEY-1GQ2794MLU7GU59P6X4GTYH45LDV40RPYETXWDFA3X42E47QCPFTQEA0WY2\n"),
    ).toBe("age14394ew67el7vzm4zc6ex5ukhww0jjk0s0zw8nzq3wxe9zxj3n3esk5nllz");
  });

  it("is one that the settings take, and another each time", () => {
    const keys = Array.from({ length: 50 }, makeAgeIdentity);
    expect(new Set(keys).size).toBe(50);
    expect(keys.filter((key) => !BACKUP_KEY.test(ageRecipient(key)))).toEqual([]);
  });

  it("is refused where a letter is another", () => {
    const key = makeAgeIdentity();
    const spoiled = key.replace(/.$/, (last) => (last === "Q" ? "P" : "Q"));
    expect(() => ageRecipient(spoiled)).toThrow("must be as age-keygen writes it");
  });
});

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { ARCHITECTURE_FILE, drawn } from "../support/architecture.ts";

it("shows in docs/architecture.md what the program registers; node tests/support/architecture.ts draws it", async () => {
  const document = readFileSync(ARCHITECTURE_FILE, "utf8");
  expect(document).toBe(await drawn(document));
});

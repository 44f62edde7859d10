import { describe, expect, it } from "vitest";
import { changeCounts } from "../../../embedded/deploy.ts";

describe("changeCounts", () => {
  it("counts each kind of change of the update, replacements among them", () => {
    const preview = "Resources:\n    + 9 to create\n\nUpdating (prod):\n";
    const closing = [
      "Resources:",
      "    + 1 created",
      "    ~ 2 updated",
      "    - 3 deleted",
      "    +-4 replaced",
      "    10 changes. 12 unchanged",
      "",
      "Duration: 5s",
    ].join("\n");
    expect(changeCounts(`${preview}${closing}`)).toEqual({
      created: 1,
      updated: 2,
      deleted: 3,
      replaced: 4,
      unchanged: 12,
    });
  });

  it("counts what has not changed", () => {
    expect(changeCounts("Updating (prod):\n\nResources:\n    46 unchanged\n\n")).toEqual({
      unchanged: 46,
    });
  });
});

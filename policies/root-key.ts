import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseRootKey, rootKeyId } from "../model/settings-key.ts";

/** What was read last, by the variables it was read from: the same for every resource of a run. */
let known: { readonly from: string; readonly forms: readonly string[] | undefined } | undefined;

/**
 * Every form in which the root key could stand in a resource, and its id; `undefined` where the
 * process was not given the key. The pack inherits the variables that the program reads it from.
 */
export function rootKeyForms(): readonly string[] | undefined {
  const held = process.env["SETTINGS_ENCRYPTION_KEY"];
  const file = process.env["SETTINGS_ENCRYPTION_KEY_FILE"];
  const from = `${held ?? ""}\n${file ?? ""}`;
  if (known?.from !== from) {
    known = { from, forms: read(held, file) };
  }
  return known.forms;
}

function read(held: string | undefined, file: string | undefined): readonly string[] | undefined {
  if (held === undefined && file === undefined) {
    return undefined;
  }
  // Paths start from the project's folder, as the program reads them.
  const text = held ?? readFileSync(resolve(import.meta.dirname, "..", file ?? ""), "utf8");
  const root = parseRootKey(text, "SETTINGS_ENCRYPTION_KEY");
  const hex = root.toString("hex");
  const base64 = root.toString("base64");
  return [
    hex,
    hex.toUpperCase(),
    base64.replace(/=+$/, ""),
    root.toString("base64url"),
    // A Secret's data is base64 of the text that a file would hold.
    Buffer.from(base64).toString("base64").replace(/=+$/, "").slice(0, -2),
    Buffer.from(hex).toString("base64").replace(/=+$/, "").slice(0, -2),
    rootKeyId(root),
  ];
}

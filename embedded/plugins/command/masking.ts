/** Keeps secret text out of what a plugin says: errors and display lines. */
import type { Value } from "../provider.ts";
import { isObject, isSecret, unwrapSecrets } from "../values.ts";

const MASK = "[secret]";
/** Shorter lines of a longer secret are too common to give anything away: masking them would garble a text. */
const SHORTEST_LINE_CHARACTERS = 4;
/** A shorter secret stands in too many words: masking "5" or "root" would make every error unreadable. */
const SHORTEST_SECRET_CHARACTERS = 6;

/** Every text inside secrets, at any depth. */
export function secretTexts(value: Value | undefined): readonly string[] {
  if (isSecret(value)) return texts(unwrapSecrets(value as Value));
  if (Array.isArray(value)) return value.flatMap(secretTexts);
  return isObject(value) ? Object.values(value).flatMap(secretTexts) : [];
}

function texts(value: Value): readonly string[] {
  if (typeof value === "string") return [value];
  if (typeof value === "number") return [String(value)];
  if (Array.isArray(value)) return value.flatMap(texts);
  return isObject(value) ? Object.values(value).flatMap(texts) : [];
}

/**
 * A function that replaces every occurrence of the given secrets, of their longer lines and of their base64 form.
 */
export function masker(secrets: readonly string[]): (text: string) => string {
  const needles = new Set<string>();
  for (const text of secrets) {
    const trimmed = text.trim();
    if (trimmed.length < SHORTEST_SECRET_CHARACTERS) continue;
    needles.add(text).add(trimmed).add(Buffer.from(text, "utf8").toString("base64"));
    for (const line of trimmed.split("\n")) {
      if (line.trim().length >= SHORTEST_LINE_CHARACTERS) needles.add(line.trim());
    }
  }
  // The longest first: a secret that contains another must not leave its rest behind.
  const ordered = [...needles].sort((a, b) => b.length - a.length);
  return (text) => ordered.reduce((masked, needle) => masked.replaceAll(needle, MASK), text);
}

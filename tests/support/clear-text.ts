/**
 * The forms in which a secret shows in a text or a file: as it is, in hexadecimal, and in base64 at each of the three
 * places that it can have in what is encoded.
 */
export function formsInClear(secret: Buffer, text: Buffer | string): readonly string[] {
  if (secret.length < 8) throw new Error("A secret that is searched for must have 8 bytes or more");
  const haystack = Buffer.isBuffer(text) ? text : Buffer.from(text);
  const forms: { readonly [form: string]: string | Buffer } = {
    "as it is": secret,
    hexadecimal: secret.toString("hex"),
    "hexadecimal in capitals": secret.toString("hex").toUpperCase(),
    "base64 at 0": base64Within(secret, 0),
    "base64 at 1": base64Within(secret, 1),
    "base64 at 2": base64Within(secret, 2),
  };
  return Object.entries(forms)
    .filter(([, form]) => haystack.includes(form))
    .map(([form]) => form);
}

/** The letters of base64 that the secret alone decides where so many bytes stand before it. */
function base64Within(secret: Buffer, before: number): string {
  const encoded = Buffer.concat([Buffer.alloc(before), secret]).toString("base64");
  const firstOwn = before === 0 ? 0 : before + 1;
  const lastOwn = Math.floor(((before + secret.length) * 8) / 6);
  return encoded.slice(firstOwn, lastOwn);
}

/** A dump with the bytes of every bytea beside their hexadecimal digits, so that what is encoded in them shows too. */
export function openedDump(dump: string): Buffer {
  const values = [...dump.matchAll(/\\x([0-9a-f]+)/g)].flatMap(([, digits = ""]) => [
    Buffer.from(digits, "hex"),
    Buffer.from("\n"),
  ]);
  return Buffer.concat([Buffer.from(dump), ...values]);
}

/**
 * Makes protobuf `Struct`s stay bytes until somebody looks into them, and reads and writes them as plain values at once.
 *
 * Every property of every resource travels as a `Struct`. `google-protobuf` makes three objects and a map entry of
 * each value on the way in and again on the way out, which is half of what a call costs here: a policy pack is asked
 * twice about each resource and once about all, a provider up to four times.
 */
import type structProto from "google-protobuf/google/protobuf/struct_pb.js";
import type { Struct as StructMessage } from "google-protobuf/google/protobuf/struct_pb.js";
import type { Properties, Value as Plain } from "./provider.ts";

/** A field's number and wire type as its first byte says them; the protocol's fields here all fit into one byte. */
const LENGTH_DELIMITED = 2;
const tag = (field: number, wireType: number): number => (field << 3) | wireType;
/** `Struct.fields` and `ListValue.values`. */
const ELEMENT = tag(1, LENGTH_DELIMITED);
const ENTRY_KEY = tag(1, LENGTH_DELIMITED);
const ENTRY_VALUE = tag(2, LENGTH_DELIMITED);
const VALUE = {
  null: tag(1, 0),
  number: tag(2, 1),
  string: tag(3, LENGTH_DELIMITED),
  boolean: tag(4, 0),
  struct: tag(5, LENGTH_DELIMITED),
  list: tag(6, LENGTH_DELIMITED),
} as const;

/**
 * The object that an encoded `Struct` says; its keys are in the order of the alphabet, as `google-protobuf` hands them out.
 *
 * @throws Error where the bytes are not those of a `Struct`
 */
export function decodeStruct(bytes: Uint8Array): Properties {
  const source = new Source(bytes);
  return source.struct(bytes.length);
}

/**
 * The bytes of a `Struct` that says this object.
 *
 * @throws TypeError for a value that a `Struct` cannot say, `undefined` among them
 */
export function encodeStruct(object: Properties): Uint8Array {
  const target = new Target();
  target.struct(object);
  return target.bytes();
}

class Source {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  struct(end: number): Properties {
    const entries: [string, Plain][] = [];
    while (this.#at < end) {
      this.#expect(ELEMENT);
      entries.push(this.#entry(this.#end(end)));
    }
    this.#ends(end);
    entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return Object.fromEntries(entries);
  }

  #entry(end: number): [string, Plain] {
    let key = "";
    let value: Plain | undefined;
    while (this.#at < end) {
      const read = this.#byte();
      if (read === ENTRY_KEY) key = this.#string(end);
      else if (read === ENTRY_VALUE) value = this.#value(this.#end(end));
      else throw unexpected(read);
    }
    this.#ends(end);
    // Readers build objects by assignment, in which it would become what the object inherits.
    if (key === "__proto__") throw new Error('A Struct must not hold the key "__proto__".');
    return [key, said(value)];
  }

  #value(end: number): Plain {
    let value: Plain | undefined;
    while (this.#at < end) {
      const read = this.#byte();
      switch (read) {
        case VALUE.string:
          value = this.#string(end);
          break;
        case VALUE.struct:
          value = this.struct(this.#end(end));
          break;
        case VALUE.list:
          value = this.#list(this.#end(end));
          break;
        case VALUE.boolean:
          value = this.#varint() !== 0;
          break;
        case VALUE.number:
          value = this.#bytes.readDoubleLE(this.#at);
          this.#at += 8;
          break;
        case VALUE.null:
          this.#varint();
          value = null;
          break;
        default:
          throw unexpected(read);
      }
    }
    this.#ends(end);
    return said(value);
  }

  #list(end: number): Plain[] {
    const list: Plain[] = [];
    while (this.#at < end) {
      this.#expect(ELEMENT);
      list.push(this.#value(this.#end(end)));
    }
    this.#ends(end);
    return list;
  }

  #string(limit: number): string {
    const end = this.#end(limit);
    const text = this.#bytes.toString("utf8", this.#at, end);
    this.#at = end;
    return text;
  }

  /** Where the part ends whose length stands here. */
  #end(limit: number): number {
    const length = this.#varint();
    const end = this.#at + length;
    // Asked so that a length without end, which is no number any more, is refused too.
    if (!(end <= limit)) {
      throw new Error(`A Struct's part of ${length} bytes is longer than what holds it.`);
    }
    return end;
  }

  /** A value that reaches into what follows its part. */
  #ends(end: number): void {
    if (this.#at !== end) throw new Error("A Struct's value is longer than its part.");
  }

  #expect(expected: number): void {
    const read = this.#byte();
    if (read !== expected) throw unexpected(read);
  }

  #varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
  }

  #byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new Error("A Struct ends in the middle of a value.");
    this.#at += 1;
    return byte;
  }
}

/** The format has no absent value: nothing said is an error, and not `null`. */
function said(value: Plain | undefined): Plain {
  if (value === undefined) throw new Error("A Struct's value says nothing.");
  return value;
}

function unexpected(read: number): Error {
  return new Error(`A Struct has no field ${read >> 3} of wire type ${read & 7} there.`);
}

/** Written from its end: what a part's length is, is known when its beginning is written. */
class Target {
  #bytes = Buffer.allocUnsafe(4096);
  #at = this.#bytes.length;

  bytes(): Uint8Array {
    return this.#bytes.subarray(this.#at);
  }

  struct(object: Properties): void {
    for (const key of Object.keys(object).reverse()) {
      const end = this.#left();
      this.#value(ENTRY_VALUE, object[key]);
      this.#string(ENTRY_KEY, key);
      this.#head(ELEMENT, this.#left() - end);
    }
  }

  #value(tagged: number, value: Plain | undefined): void {
    const end = this.#left();
    if (typeof value === "string") this.#string(VALUE.string, value);
    else if (typeof value === "boolean") this.#small(VALUE.boolean, value ? 1 : 0);
    else if (typeof value === "number") this.#number(value);
    else if (value === null) this.#small(VALUE.null, 0);
    else if (Array.isArray(value)) this.#list(value);
    else if (typeof value === "object") {
      this.struct(value);
      this.#head(VALUE.struct, this.#left() - end);
    } else throw new TypeError(`A Struct holds JSON's values alone, got ${typeof value}.`);
    this.#head(tagged, this.#left() - end);
  }

  #list(values: readonly Plain[]): void {
    const end = this.#left();
    for (let i = values.length - 1; i >= 0; i -= 1) this.#value(ELEMENT, values[i]);
    this.#head(VALUE.list, this.#left() - end);
  }

  #number(value: number): void {
    this.#room(9);
    this.#at -= 8;
    this.#bytes.writeDoubleLE(value, this.#at);
    this.#byte(VALUE.number);
  }

  #string(tagged: number, text: string): void {
    const length = Buffer.byteLength(text);
    this.#room(length);
    this.#at -= length;
    this.#bytes.write(text, this.#at, length, "utf8");
    this.#head(tagged, length);
  }

  #small(tagged: number, value: 0 | 1): void {
    this.#room(2);
    this.#byte(value);
    this.#byte(tagged);
  }

  #head(tagged: number, length: number): void {
    this.#room(11);
    let bytes = 1;
    for (let rest = length; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes += 1;
    this.#at -= bytes;
    let rest = length;
    for (let i = 0; i < bytes; i += 1) {
      this.#bytes[this.#at + i] = (rest % 0x80) | (i < bytes - 1 ? 0x80 : 0);
      rest = Math.floor(rest / 0x80);
    }
    this.#byte(tagged);
  }

  #byte(byte: number): void {
    this.#at -= 1;
    this.#bytes[this.#at] = byte;
  }

  #left(): number {
    return this.#bytes.length - this.#at;
  }

  #room(bytes: number): void {
    if (this.#at >= bytes) return;
    const written = this.bytes();
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, written.length + bytes));
    this.#at = larger.length - written.length;
    larger.set(written, this.#at);
    this.#bytes = larger;
  }
}

type StructModule = Pick<typeof structProto, "Struct" | "Value">;
type Reader = Parameters<typeof structProto.Struct.deserializeBinaryFromReader>[1];
type Writer = Parameters<typeof structProto.Struct.serializeBinaryToWriter>[1];

const changed = new WeakSet<object>();

/**
 * Changes `google-protobuf`'s own class, once: a `Struct` that is read from a message keeps its bytes, and one that is
 * made of a plain object has them at once. `toJavaScript`, `fromJavaScript` and the sending go by them; for all else
 * (its map of fields, a copy) it becomes what it always was.
 *
 * What goes by the message's inner array (`equals`, `toArray`) finds a `Struct` empty while it is bytes. Neither the SDK
 * nor a plugin here asks for these.
 */
export function keepStructsEncoded({ Struct, Value }: StructModule): void {
  if (changed.has(Struct)) return;
  changed.add(Struct);
  const encoded = new WeakMap<StructMessage, Uint8Array>();
  const write = Struct.serializeBinaryToWriter.bind(Struct);
  // The class's own ways, for one that is bytes no more.
  /* eslint-disable @typescript-eslint/unbound-method -- called with the message that they are asked of */
  const { getFieldsMap, toJavaScript } = Struct.prototype;
  /* eslint-enable @typescript-eslint/unbound-method */

  Struct.deserializeBinaryFromReader = (message: StructMessage, reader: Reader): StructMessage => {
    const start = reader.getCursor();
    while (reader.nextField()) reader.skipField();
    encoded.set(message, reader.getBuffer().subarray(start, reader.getCursor()));
    return message;
  };
  Struct.fromJavaScript = (object: Properties | null | undefined): StructMessage => {
    const message = new Struct();
    // The library makes an empty one of nothing, and the SDK gives it that.
    encoded.set(message, encodeStruct(object ?? {}));
    return message;
  };
  Struct.serializeBinaryToWriter = (message: StructMessage, writer: Writer): void => {
    const bytes = encoded.get(message);
    if (bytes === undefined) write(message, writer);
    else writer.writeSerializedMessage(bytes, 0, bytes.length);
  };
  Struct.prototype.toJavaScript = function (this: StructMessage) {
    const bytes = encoded.get(this);
    return bytes === undefined ? toJavaScript.call(this) : decodeStruct(bytes);
  };
  Struct.prototype.getFieldsMap = function (this: StructMessage) {
    const bytes = encoded.get(this);
    const fields = getFieldsMap.call(this);
    if (bytes === undefined) return fields;
    const entries = Object.entries(decodeStruct(bytes));
    encoded.delete(this);
    for (const [key, value] of entries) fields.set(key, Value.fromJavaScript(value));
    return fields;
  };
  // A copy is made of the message's inner array, in which there is nothing yet: looking into all of it fills that in.
  const Message = Object.getPrototypeOf(Struct.prototype) as Record<
    "clone" | "cloneMessage",
    () => unknown
  >;
  for (const name of ["clone", "cloneMessage"] as const) {
    const copy = Message[name];
    Message[name] = function (this: { toObject(): unknown }) {
      this.toObject();
      return copy.call(this);
    };
  }
}

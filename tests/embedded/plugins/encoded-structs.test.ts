import * as fc from "fast-check";
import jspb from "google-protobuf";
import structProto from "google-protobuf/google/protobuf/struct_pb.js";
import { describe, expect, it } from "vitest";
import {
  decodeStruct,
  encodeStruct,
  keepStructsEncoded,
} from "../../../embedded/plugins/encoded-structs.ts";
import type { Properties } from "../../../embedded/plugins/provider.ts";

const { Struct, Value } = structProto;

/** Any object that `google-protobuf` itself can carry: it knows no minus zero apart and loses `__proto__`. */
const object = fc
  .dictionary(
    fc.string({ unit: "binary" }),
    fc.jsonValue({ depthSize: "medium", stringUnit: "binary" }),
  )
  .map((any) => JSON.parse(JSON.stringify(any)) as Properties)
  .filter((any) => !JSON.stringify(any).includes("__proto__"));

describe("encodeStruct and decodeStruct", () => {
  // Before the library's class is changed, below.
  it("write what google-protobuf reads, and read what it writes", () => {
    fc.assert(
      fc.property(object, (any) => {
        expect(Struct.deserializeBinary(encodeStruct(any)).toJavaScript()).toEqual(any);
        const written = Struct.fromJavaScript(any).serializeBinary();
        expect(JSON.stringify(decodeStruct(written))).toBe(
          JSON.stringify(Struct.deserializeBinary(written).toJavaScript()),
        );
      }),
    );
  });

  it("carry a text and an object larger than any buffer they began with", () => {
    const large = { text: "ä".repeat(300_000), list: Array.from({ length: 20_000 }, (_, i) => i) };
    expect(decodeStruct(encodeStruct(large))).toEqual(large);
  });

  it("keep a key that is named like what objects inherit, and refuse the one that would be inherited", () => {
    const own = JSON.parse('{"constructor": 2, "toString": 3}') as Properties;
    expect(decodeStruct(encodeStruct(own))).toEqual(own);
    const lost = JSON.parse('{"a": {"__proto__": {"x": 1}}}') as Properties;
    expect(() => decodeStruct(encodeStruct(lost))).toThrow(
      new Error('A Struct must not hold the key "__proto__".'),
    );
  });

  it.each<[string, unknown]>([
    ["undefined", { a: undefined }],
    ["function", { a: [() => 1] }],
    ["bigint", { a: { b: 1n } }],
  ])("refuse what no Struct can say: %s", (kind, wrong) => {
    expect(() => encodeStruct(wrong as Properties)).toThrow(
      new TypeError(`A Struct holds JSON's values alone, got ${kind}.`),
    );
  });

  it.each<[string, Uint8Array, string]>([
    [
      "cut off",
      encodeStruct({ a: "text" }).slice(0, -1),
      "A Struct's part of 11 bytes is longer than what holds it.",
    ],
    ["cut off after a tag", Buffer.of(0x0a), "A Struct ends in the middle of a value."],
    ["of another message", Buffer.of(0x12, 0), "A Struct has no field 2 of wire type 2 there."],
    [
      "of a number that reaches into its neighbour",
      Buffer.of(0x0a, 8, 0x0a, 1, 0x61, 0x12, 3, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0),
      "A Struct's value is longer than its part.",
    ],
    [
      "of a value without a kind",
      Buffer.of(0x0a, 5, 0x0a, 1, 0x61, 0x12, 0),
      "A Struct's value says nothing.",
    ],
  ])("refuse bytes that are %s", (_, bytes, message) => {
    expect(() => decodeStruct(bytes)).toThrow(new Error(message));
  });
});

describe("keepStructsEncoded", () => {
  const whole: Properties = { a: { b: [1, "two", null, { c: true }] }, d: {} };
  /** A message that holds a Struct, after its journey. */
  const sent = (properties: Properties) => {
    const message = new Value();
    message.setStructValue(Struct.fromJavaScript(properties));
    return Value.deserializeBinary(message.serializeBinary()).getStructValue();
  };

  it("gives the same values, and the map of fields to whoever asks for it", () => {
    keepStructsEncoded(structProto);
    keepStructsEncoded(structProto);
    expect(sent(whole)?.toJavaScript()).toEqual(whole);
    expect(Struct.fromJavaScript(whole).toJavaScript()).toEqual(whole);

    const read = sent(whole);
    const fields = read?.getFieldsMap();
    expect(fields?.get("a")?.getStructValue()?.toJavaScript()).toEqual(whole["a"]);
    fields?.set("e", Value.fromJavaScript("added"));
    expect(read?.toJavaScript()).toEqual({ ...whole, e: "added" });
    expect(Struct.deserializeBinary(read?.serializeBinary() ?? Buffer.of()).toJavaScript()).toEqual(
      { ...whole, e: "added" },
    );
    expect(sent({})?.toObject()).toEqual({ fieldsMap: [] });
  });

  it("copies a message that holds one, at any depth", () => {
    const inner = new Value();
    inner.setStructValue(sent(whole));
    const list = new structProto.ListValue();
    list.setValuesList([inner]);
    const copy = list.cloneMessage();
    list.clearValuesList();
    expect(copy.toJavaScript()).toEqual([whole]);
    expect(sent(whole)?.clone().toJavaScript()).toEqual(whole);
  });

  it("makes an empty one of nothing, as the library does", () => {
    const nothing = undefined as unknown as Properties;
    expect(Struct.fromJavaScript(nothing).toJavaScript()).toEqual({});
  });

  it("refuses bytes that are not a Struct's each time that somebody looks", () => {
    const message = new Struct();
    Struct.deserializeBinaryFromReader(message, new jspb.BinaryReader(Buffer.of(0x12, 0)));
    for (const look of [
      () => message.getFieldsMap(),
      () => message.getFieldsMap(),
      () => message.toJavaScript(),
    ]) {
      expect(look).toThrow("A Struct has no field 2 of wire type 2 there.");
    }
  });

  it("reads what follows a Struct in its message", () => {
    const list = new structProto.ListValue();
    list.setValuesList([Value.fromJavaScript(whole), Value.fromJavaScript("after")]);
    const read = structProto.ListValue.deserializeBinary(list.serializeBinary());
    expect(read.toJavaScript()).toEqual([whole, "after"]);
  });
});

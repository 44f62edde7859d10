import { X509Certificate, createHash, createPrivateKey, createPublicKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { CertificationRequest } from "@peculiar/asn1-csr";
import { AsnConvert } from "@peculiar/asn1-schema";
import { Certificate } from "@peculiar/asn1-x509";
import ssh2 from "ssh2";
import { describe, expect, it } from "vitest";
import type { Properties } from "../../../embedded/plugins/provider.ts";
import {
  certificateBody,
  issuerOf,
  requestBody,
  requestedSubject,
  selfSubject,
} from "../../../embedded/plugins/tls/certificate.ts";
import { tlsProvider } from "../../../embedded/plugins/tls/tls-provider.ts";
import { isUnknown, unwrapSecrets } from "../../../embedded/plugins/values.ts";
import { recordedCalls, replay, testContext } from "./replay.ts";
import type { Allowance, Call } from "./replay.ts";

/** Some time after the recording, when none of its certificates was due. */
const RECORDED_AT = new Date("2026-11-22T05:00:00Z");
const provider = tlsProvider(() => RECORDED_AT);

type Made = Properties & { readonly id: string };

function request(kind: string, rest: Properties = {}) {
  const type = `tls:index/${kind.charAt(0).toLowerCase()}${kind.slice(1)}:${kind}`;
  return { urn: `urn:pulumi:s::p::${type}::it`, type, name: "it", ...rest } as const;
}

async function create(kind: string, inputs: Properties, by = provider): Promise<Made> {
  const checked = await by.check({ ...request(kind), olds: {}, news: inputs });
  expect(checked.failures).toBe(undefined);
  const { id, properties } = await by.create(
    { ...request(kind), properties: unwrapSecrets(checked.inputs ?? {}) },
    testContext(),
  );
  return { ...unwrapSecrets(properties), id: id ?? "" };
}

async function failures(kind: string, news: Properties) {
  return (await provider.check({ ...request(kind), olds: {}, news })).failures;
}

function text(from: Properties, name: string): string {
  const value = from[name];
  if (typeof value !== "string") throw new Error(`${name} is no text`);
  return value;
}

function recordedCreate(kind: string): Call {
  const calls = recordedCalls("tls", "02-create");
  const found = calls.find(({ method, type }) => method === "Create" && type.endsWith(`:${kind}`));
  if (found === undefined) throw new Error(`no recorded create of a ${kind}`);
  return found;
}

function recordedOutput(kind: string, property: string): string {
  return text(unwrapSecrets(recordedCreate(kind).response["properties"] as Properties), property);
}

function der(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64");
}

const LABELS = { EC: "EC PRIVATE KEY", PKCS8: "PRIVATE KEY" } as const;

/**
 * The recorded calls with keys that fit together in place of the blanked ones: what was signed with them is
 * signed again.
 */
async function callsWithKeys(): Promise<Call[]> {
  const caKey = await create("PrivateKey", { algorithm: "ECDSA", ecdsaCurve: "P256" });
  const leafKey = await create("PrivateKey", { algorithm: "ED25519" });
  const ca = await create("SelfSignedCert", {
    ...(recordedCreate("SelfSignedCert").request["properties"] as Properties),
    privateKeyPem: text(caKey, "privateKeyPem"),
  });
  const blank = (label: string): string =>
    `-----BEGIN ${label}-----\nREDACTED\n-----END ${label}-----\n`;
  const replacements: readonly (readonly [string, string])[] = [
    [blank(LABELS.EC), text(caKey, "privateKeyPem")],
    [blank(LABELS.PKCS8), text(leafKey, "privateKeyPem")],
    [recordedOutput("SelfSignedCert", "certPem"), text(ca, "certPem")],
  ];
  const inJson = (value: string): string => JSON.stringify(value).slice(1, -1);
  return recordedCalls("tls").map((call) => {
    const json = replacements.reduce(
      (result, [from, to]) => result.replaceAll(inJson(from), inJson(to)),
      JSON.stringify(call),
    );
    return JSON.parse(json) as Call;
  });
}

const made = "made from a new random number, a new key or the present time";
const differs = (at: string, type?: string): Allowance => ({
  methods: ["Create"],
  at,
  reason: made,
  ...(type === undefined ? {} : { type }),
});
const allowances: Allowance[] = [
  differs("id"),
  differs("properties.id"),
  differs("properties.certPem"),
  differs("properties.certRequestPem", ":CertRequest"),
  differs("properties.validityStartTime"),
  differs("properties.validityEndTime"),
  ...[
    "privateKeyPem",
    "privateKeyPemPkcs8",
    "privateKeyOpenssh",
    "publicKeyFingerprintMd5",
    "publicKeyFingerprintSha256",
    "publicKeyOpenssh",
    "publicKeyPem",
  ].map((name) => differs(`properties.${name}`, ":PrivateKey")),
];

describe("tls provider", () => {
  it("answers every recorded call as the official plugin did", async () => {
    expect(await replay(provider, await callsWithKeys(), allowances)).toEqual([]);
  });

  it("says which uses, algorithms, curves and hours there are when given another", async () => {
    const certificate = { privateKeyPem: "x", allowedUses: [], validityPeriodHours: 1 };
    expect(await failures("PrivateKey", { algorithm: "DSA", ecdsaCurve: "P1" })).toEqual([
      { property: "algorithm", reason: 'It must be one of RSA, ECDSA, ED25519, got "DSA".' },
      { property: "ecdsaCurve", reason: 'It must be one of P224, P256, P384, P521, got "P1".' },
    ]);
    expect(await failures("PrivateKey", { algorithm: "RSA", rsaBits: 512 })).toEqual([
      { property: "rsaBits", reason: "It must be a whole number of at least 1024, got 512." },
    ]);
    expect(await failures("SelfSignedCert", { ...certificate, validityPeriodHours: -1 })).toEqual([
      { property: "validityPeriodHours", reason: "It must be a whole number of hours, got -1." },
    ]);
    const [failure, ...more] =
      (await failures("SelfSignedCert", { ...certificate, allowedUses: ["fun"] })) ?? [];
    expect([failure?.property, more]).toEqual(["allowedUses[0]", []]);
    expect(failure?.reason).toMatch(
      /^It must be one of any_extended, .*, timestamping, got "fun"\.$/,
    );
  });
});

describe("PrivateKey", () => {
  it.each<[Properties, string, object]>([
    [{ algorithm: "RSA" }, "RSA PRIVATE KEY", { modulusLength: 2048, publicExponent: 65537n }],
    [
      { algorithm: "RSA", rsaBits: 3072 },
      "RSA PRIVATE KEY",
      { modulusLength: 3072, publicExponent: 65537n },
    ],
    [{ algorithm: "ECDSA" }, "EC PRIVATE KEY", { namedCurve: "secp224r1" }],
    [{ algorithm: "ECDSA", ecdsaCurve: "P256" }, "EC PRIVATE KEY", { namedCurve: "prime256v1" }],
    [{ algorithm: "ECDSA", ecdsaCurve: "P384" }, "EC PRIVATE KEY", { namedCurve: "secp384r1" }],
    [{ algorithm: "ECDSA", ecdsaCurve: "P521" }, "EC PRIVATE KEY", { namedCurve: "secp521r1" }],
    [{ algorithm: "ED25519" }, "PRIVATE KEY", {}],
  ])("%j is one key in every form", async (inputs, label, details) => {
    const key = await create("PrivateKey", inputs);
    expect(text(key, "privateKeyPem").split("\n")[0]).toBe(`-----BEGIN ${label}-----`);
    const privateKey = createPrivateKey(text(key, "privateKeyPem"));
    expect(privateKey.asymmetricKeyDetails).toEqual(details);
    const publicDer = createPublicKey(privateKey).export({ type: "spki", format: "der" });
    expect(createPrivateKey(text(key, "privateKeyPemPkcs8")).equals(privateKey)).toBe(true);
    expect(der(text(key, "publicKeyPem")).equals(publicDer)).toBe(true);
    expect(key.id).toBe(createHash("sha1").update(publicDer).digest("hex"));
  });

  it.each<[Properties, string]>([
    [{ algorithm: "RSA" }, "ssh-rsa"],
    [{ algorithm: "ECDSA", ecdsaCurve: "P256" }, "ecdsa-sha2-nistp256"],
    [{ algorithm: "ECDSA", ecdsaCurve: "P384" }, "ecdsa-sha2-nistp384"],
    [{ algorithm: "ECDSA", ecdsaCurve: "P521" }, "ecdsa-sha2-nistp521"],
    [{ algorithm: "ED25519" }, "ssh-ed25519"],
  ])("%j has SSH forms that an SSH library reads as that same key", async (inputs, type) => {
    const key = await create("PrivateKey", inputs);
    const parsed = ssh2.utils.parseKey(text(key, "privateKeyOpenssh"));
    if (parsed instanceof Error) throw parsed;
    const blob = parsed.getPublicSSH();
    expect(parsed.type).toBe(type);
    expect(der(parsed.getPublicPEM()).equals(der(text(key, "publicKeyPem")))).toBe(true);
    expect(
      createPrivateKey(parsed.getPrivatePEM()).equals(createPrivateKey(text(key, "privateKeyPem"))),
    ).toBe(true);
    expect(key).toMatchObject({
      publicKeyOpenssh: `${type} ${blob.toString("base64")}\n`,
      publicKeyFingerprintSha256: `SHA256:${createHash("sha256").update(blob).digest("base64").replaceAll("=", "")}`,
      publicKeyFingerprintMd5: createHash("md5")
        .update(blob)
        .digest("hex")
        .replace(/..(?=.)/g, "$&:"),
    });
  });

  it("has no SSH forms on curve P224, which SSH does not know", async () => {
    expect(await create("PrivateKey", { algorithm: "ECDSA" })).toMatchObject({
      ecdsaCurve: "P224",
      privateKeyOpenssh: "",
      publicKeyOpenssh: "",
      publicKeyFingerprintMd5: "",
      publicKeyFingerprintSha256: "",
    });
  });

  it("gives the fingerprints and the id that the official plugin gave for its keys", () => {
    const creates = recordedCalls("tls", "02-create").filter(
      ({ method, type }) => method === "Create" && type.endsWith(":PrivateKey"),
    );
    const outputs = creates.map(({ response }) => response["properties"] as Properties);
    const found = outputs.map((output) => {
      const blob = Buffer.from(text(output, "publicKeyOpenssh").split(" ")[1] ?? "", "base64");
      return {
        id: createHash("sha1")
          .update(der(text(output, "publicKeyPem")))
          .digest("hex"),
        md5: createHash("md5")
          .update(blob)
          .digest("hex")
          .replace(/..(?=.)/g, "$&:"),
      };
    });
    expect(found).toEqual(
      outputs.map((output) => ({ id: output["id"], md5: output["publicKeyFingerprintMd5"] })),
    );
    expect(found).toHaveLength(2);
  });
});

describe("certificates and requests", () => {
  const publicKeyOf = (pem: string): KeyObject => new X509Certificate(pem).publicKey;

  it("are signed over the same bytes as the official plugin's, given its keys and numbers", () => {
    const caPem = recordedOutput("SelfSignedCert", "certPem");
    const ca = AsnConvert.parse(der(caPem), Certificate);
    const caKey = publicKeyOf(caPem);
    const names = { dnsNames: [], ipAddresses: [], uris: [] };
    const caBody = certificateBody({
      subject: selfSubject(caKey, { commonName: "golden ca" }, names),
      issuer: caKey,
      allowedUses: ["cert_signing", "crl_signing"],
      isAuthority: true,
      maxPathLength: undefined,
      setSubjectKeyId: false,
      setAuthorityKeyId: false,
      serialNumber: Buffer.from(ca.tbsCertificate.serialNumber),
      notBefore: new Date(recordedOutput("SelfSignedCert", "validityStartTime")),
      validityPeriodHours: 87_600,
    });
    expect(Buffer.from(AsnConvert.serialize(caBody))).toEqual(signedPart(caPem));

    const leafPem = recordedOutput("LocallySignedCert", "certPem");
    const leaf = AsnConvert.parse(der(leafPem), Certificate);
    const leafBody = certificateBody({
      subject: requestedSubject(recordedOutput("CertRequest", "certRequestPem")),
      issuer: issuerOf(caPem, caKey),
      allowedUses: ["digital_signature", "server_auth"],
      isAuthority: false,
      maxPathLength: undefined,
      setSubjectKeyId: false,
      setAuthorityKeyId: false,
      serialNumber: Buffer.from(leaf.tbsCertificate.serialNumber),
      notBefore: new Date(recordedOutput("LocallySignedCert", "validityStartTime")),
      validityPeriodHours: 2190,
    });
    expect(Buffer.from(AsnConvert.serialize(leafBody))).toEqual(signedPart(leafPem));

    const requestPem = recordedOutput("CertRequest", "certRequestPem");
    const body = requestBody(
      publicKeyOf(leafPem),
      { commonName: "golden.example.com", organization: "Golden" },
      { dnsNames: ["golden.example.com"], ipAddresses: ["10.99.0.9"], uris: [] },
    );
    const recorded = AsnConvert.parse(der(requestPem), CertificationRequest);
    expect(Buffer.from(AsnConvert.serialize(body))).toEqual(
      Buffer.from(recorded.certificationRequestInfoRaw ?? new ArrayBuffer()),
    );
  });

  function signedPart(pem: string): Buffer {
    const raw = AsnConvert.parse(der(pem), Certificate).tbsCertificateRaw;
    return Buffer.from(raw ?? new ArrayBuffer());
  }

  it.each<Properties>([
    { algorithm: "RSA" },
    { algorithm: "ECDSA", ecdsaCurve: "P224" },
    { algorithm: "ECDSA", ecdsaCurve: "P256" },
    { algorithm: "ECDSA", ecdsaCurve: "P384" },
    { algorithm: "ECDSA", ecdsaCurve: "P521" },
    { algorithm: "ED25519" },
  ])("make a chain that verifies with a %j authority", async (algorithm) => {
    const { ca, leaf } = await chain(algorithm, {});
    const authority = new X509Certificate(text(ca, "certPem"));
    const certificate = new X509Certificate(text(leaf, "certPem"));
    expect([authority.ca, certificate.ca]).toEqual([true, false]);
    expect(authority.verify(authority.publicKey)).toBe(true);
    expect(certificate.verify(authority.publicKey)).toBe(true);
    expect(certificate.checkIssued(authority)).toBe(true);
    expect(certificate.subject).toBe("C=FI\nO=Näyte Oy\nCN=a.example.com");
    expect(certificate.subjectAltName).toBe(
      "DNS:a.example.com, IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:0:1, URI:spiffe://a/b",
    );
    expect(certificate.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    expect(BigInt(`0x${certificate.serialNumber}`).toString()).toBe(leaf.id);
    expect(leaf).toMatchObject({
      caKeyAlgorithm: algorithm["algorithm"],
      readyForRenewal: false,
      validityStartTime: "2026-11-22T05:00:00.000Z",
      validityEndTime: "2026-11-24T05:00:00.000Z",
    });
    expect(certificate.validToDate.toISOString()).toBe("2026-11-24T05:00:00.000Z");
  });

  async function chain(algorithm: Properties, leafInputs: Properties, by = provider) {
    const caKey = await create("PrivateKey", algorithm, by);
    const ca = await create(
      "SelfSignedCert",
      {
        privateKeyPem: text(caKey, "privateKeyPem"),
        subject: { commonName: "ca" },
        isCaCertificate: true,
        maxPathLength: 0,
        allowedUses: ["cert_signing"],
        validityPeriodHours: 100,
      },
      by,
    );
    const key = await create("PrivateKey", { algorithm: "ECDSA", ecdsaCurve: "P256" }, by);
    const csr = await create(
      "CertRequest",
      {
        privateKeyPem: text(key, "privateKeyPem"),
        subject: { commonName: "a.example.com", organization: "Näyte Oy", country: "FI" },
        dnsNames: ["a.example.com"],
        ipAddresses: ["10.0.0.1", "fd00::1"],
        uris: ["spiffe://a/b"],
      },
      by,
    );
    const inputs = {
      certRequestPem: text(csr, "certRequestPem"),
      caCertPem: text(ca, "certPem"),
      caPrivateKeyPem: text(caKey, "privateKeyPem"),
      allowedUses: ["key_encipherment", "server_auth", "client_auth"],
      validityPeriodHours: 48,
      ...leafInputs,
    };
    return { ca, leaf: await create("LocallySignedCert", inputs, by), inputs };
  }

  it("replace a certificate from its renewal time on, and not a moment before", async () => {
    let now = RECORDED_AT;
    const clocked = tlsProvider(() => now);
    const { leaf, inputs } = await chain(
      { algorithm: "ED25519" },
      { earlyRenewalHours: 12 },
      clocked,
    );
    const { id, ...olds } = leaf;
    const diffAt = async (time: string, news: Properties = inputs) => {
      now = new Date(time);
      return clocked.diff({ ...request("LocallySignedCert"), id, olds: { ...olds, id }, news });
    };
    const readAt = async (time: string) => {
      now = new Date(time);
      const read = await clocked.read(
        { ...request("LocallySignedCert"), id, properties: { ...olds, id }, inputs },
        testContext(),
      );
      return read.properties?.["readyForRenewal"];
    };
    const renewal = {
      changes: "DIFF_SOME",
      replaces: ["readyForRenewal"],
      diffs: ["readyForRenewal"],
    };
    expect(await diffAt("2026-11-23T16:59:59.999Z")).toEqual({ changes: "DIFF_NONE" });
    expect(await diffAt("2026-11-23T17:00:00.000Z")).toEqual(renewal);
    expect(await diffAt("2030-01-01T00:00:00.000Z")).toEqual(renewal);
    expect(await readAt("2026-11-23T16:59:59.999Z")).toBe(false);
    expect(await readAt("2026-11-23T17:00:00.000Z")).toBe(true);
  });

  it("change the renewal time in place, and everything that is signed by a replacement", async () => {
    const { leaf, inputs } = await chain({ algorithm: "ED25519" }, {});
    const { id, ...olds } = leaf;
    const diff = async (change: Properties) =>
      provider.diff({
        ...request("LocallySignedCert"),
        id,
        olds: { ...olds, id },
        news: { ...inputs, ...change },
      });
    expect(await diff({ earlyRenewalHours: 5 })).toEqual({
      changes: "DIFF_SOME",
      diffs: ["earlyRenewalHours"],
    });
    expect(await diff({ allowedUses: ["server_auth"], setSubjectKeyId: true })).toEqual({
      changes: "DIFF_SOME",
      replaces: ["allowedUses", "setSubjectKeyId"],
      diffs: ["allowedUses", "setSubjectKeyId"],
    });
    const updated = await provider.update(
      {
        ...request("LocallySignedCert"),
        id,
        olds: { ...olds, id },
        news: { ...inputs, earlyRenewalHours: 5 },
      },
      testContext(),
    );
    expect(unwrapSecrets(updated.properties)).toEqual({ ...leaf, earlyRenewalHours: 5 });
  });

  it("carry the key ids and the path length that were asked for", async () => {
    const key = await create("PrivateKey", { algorithm: "ED25519" });
    const certificate = await create("SelfSignedCert", {
      privateKeyPem: text(key, "privateKeyPem"),
      subject: { commonName: "x", streetAddresses: ["one", "two"], emailAddress: "a@example.com" },
      allowedUses: [],
      isCaCertificate: true,
      maxPathLength: 3,
      setSubjectKeyId: true,
      setAuthorityKeyId: true,
      validityPeriodHours: 1,
    });
    const parsed = AsnConvert.parse(der(text(certificate, "certPem")), Certificate).tbsCertificate;
    const extensions = (parsed.extensions ?? []).map(({ extnID, critical, extnValue }) => [
      extnID,
      critical,
      Buffer.from(extnValue.buffer).toString("hex"),
    ]);
    const publicKey = der(text(key, "publicKeyPem")).subarray(-32);
    const keyId = createHash("sha1")
      .update(Buffer.concat([Buffer.from([4, 32]), publicKey]))
      .digest("hex");
    expect(extensions).toEqual([
      ["2.5.29.19", true, "30060101ff020103"],
      ["2.5.29.14", false, `0414${keyId}`],
      ["2.5.29.35", false, `30168014${keyId}`],
    ]);
    expect(new X509Certificate(text(certificate, "certPem")).subject).toBe(
      "street=one + street=two\nCN=x\nemailAddress=a@example.com",
    );
  });

  it("know at preview what they can, and nothing that is signed", async () => {
    const preview = await provider.create(
      {
        ...request("SelfSignedCert"),
        properties: { privateKeyPem: "k", allowedUses: [], validityPeriodHours: 1 },
        preview: true,
      },
      testContext(),
    );
    const unknown = Object.entries(preview.properties).filter(([, value]) => isUnknown(value));
    expect(unknown.map(([name]) => name).sort()).toEqual([
      "certPem",
      "id",
      "keyAlgorithm",
      "maxPathLength",
      "validityEndTime",
      "validityStartTime",
    ]);
  });

  it("warn when the signer does not look like an authority", async () => {
    const key = await create("PrivateKey", { algorithm: "ED25519" });
    const privateKeyPem = text(key, "privateKeyPem");
    const self = await create("SelfSignedCert", {
      privateKeyPem,
      subject: { commonName: "x" },
      allowedUses: [],
      validityPeriodHours: 1,
    });
    const csr = await create("CertRequest", { privateKeyPem });
    const lines: string[] = [];
    await provider.create(
      {
        ...request("LocallySignedCert"),
        properties: {
          caPrivateKeyPem: privateKeyPem,
          caCertPem: text(self, "certPem"),
          certRequestPem: text(csr, "certRequestPem"),
          allowedUses: [],
          validityPeriodHours: 1,
        },
      },
      testContext(lines),
    );
    expect(lines).toEqual([
      "warning: caCertPem does not appear to be a certificate authority's: clients may refuse what it signs.",
    ]);
  });

  it("refuse what is no key, no certificate, no request, no address or not its own, and never repeat it", async () => {
    const key = text(await create("PrivateKey", { algorithm: "ED25519" }), "privateKeyPem");
    const other = text(await create("PrivateKey", { algorithm: "ED25519" }), "privateKeyPem");
    const ca = {
      privateKeyPem: key,
      isCaCertificate: true,
      allowedUses: [],
      validityPeriodHours: 1,
    };
    const caCertPem = text(
      await create("SelfSignedCert", { ...ca, subject: { commonName: "x" } }),
      "certPem",
    );
    const leaf = {
      caPrivateKeyPem: key,
      caCertPem,
      certRequestPem: "secret-nonsense",
      allowedUses: [],
      validityPeriodHours: 1,
    };
    const noKey =
      "it must be an RSA, ECDSA or ED25519 private key in PEM format without a passphrase, got something else. Pass the privateKeyPem of a PrivateKey.";
    const cases: [string, Properties, string][] = [
      ["CertRequest", { privateKeyPem: "secret-nonsense" }, `privateKeyPem: ${noKey}`],
      ["LocallySignedCert", { ...leaf, caPrivateKeyPem: "x" }, `caPrivateKeyPem: ${noKey}`],
      [
        "LocallySignedCert",
        leaf,
        "certRequestPem: it must be one CERTIFICATE REQUEST in PEM format, got something else. Pass the certRequestPem of a CertRequest.",
      ],
      [
        "LocallySignedCert",
        { ...leaf, caCertPem: key },
        "caCertPem: it must be one CERTIFICATE in PEM format, got something else. Pass the certPem of a SelfSignedCert.",
      ],
      [
        "LocallySignedCert",
        { ...leaf, caPrivateKeyPem: other },
        "caPrivateKeyPem: it must be the private key of caCertPem, got another one. Pass the key that the certificate was made with.",
      ],
      [
        "CertRequest",
        { privateKeyPem: key, ipAddresses: ["host"] },
        'ipAddresses: each must be an IPv4 or IPv6 address, got "host". Put host names into dnsNames.',
      ],
      [
        "SelfSignedCert",
        ca,
        "subject: a certificate authority must have a name, got none. Give it a commonName.",
      ],
      [
        "SelfSignedCert",
        { ...ca, isCaCertificate: false, setAuthorityKeyId: true },
        "setAuthorityKeyId: the certificate must have a subject key id to repeat, got none. Set setSubjectKeyId too.",
      ],
    ];
    for (const [kind, inputs, message] of cases) {
      await expect(create(kind, inputs)).rejects.toThrow(new Error(message));
    }
  });
});

/** Certificates and certificate requests, laid out as Go's `crypto/x509` lays them out for the official plugin. */
import { createHash, createPublicKey, randomBytes, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { isIP } from "node:net";
import { CertificationRequest, CertificationRequestInfo } from "@peculiar/asn1-csr";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import * as x509 from "@peculiar/asn1-x509";
import { EXTENDED_KEY_USAGES, KEY_USAGES } from "./allowed-uses.ts";
import { algorithmOf, curveOf, pem } from "./private-key.ts";

/** Who a certificate is for; every part is optional. */
export interface Subject {
  readonly commonName?: string;
  readonly country?: string;
  readonly emailAddress?: string;
  readonly locality?: string;
  readonly organization?: string;
  readonly organizationalUnit?: string;
  readonly postalCode?: string;
  readonly province?: string;
  readonly serialNumber?: string;
  readonly streetAddresses?: readonly string[];
}

export interface AlternativeNames {
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly uris: readonly string[];
}

/** Object identifiers of a name's parts, in the order in which Go writes them. */
const NAME_PARTS: readonly (readonly [keyof Subject, string])[] = [
  ["country", "2.5.4.6"],
  ["organization", "2.5.4.10"],
  ["organizationalUnit", "2.5.4.11"],
  ["locality", "2.5.4.7"],
  ["province", "2.5.4.8"],
  ["streetAddresses", "2.5.4.9"],
  ["postalCode", "2.5.4.17"],
  ["commonName", "2.5.4.3"],
  ["serialNumber", "2.5.4.5"],
  ["emailAddress", "1.2.840.113549.1.9.1"],
];

const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const SERIAL_BYTES = 16;
const HOUR_MS = 3_600_000;

export interface CertificateRequest {
  readonly pem: string;
  /** SHA-1 of its DER form, in hexadecimal: what the official plugin takes as id. */
  readonly id: string;
}

/** What is signed in a certificate request for the key, with the subject and the names. */
export function requestBody(
  key: KeyObject,
  subject: Subject | undefined,
  names: AlternativeNames,
): CertificationRequestInfo {
  const body = new CertificationRequestInfo({
    version: 0,
    subject: nameOf(subject),
    subjectPKInfo: publicKeyInfo(key),
  });
  const extension = alternativeNames(names, false);
  if (extension !== undefined) {
    body.attributes.push(
      new x509.Attribute({
        type: EXTENSION_REQUEST,
        values: [AsnConvert.serialize(new x509.Extensions([extension]))],
      }),
    );
  }
  return body;
}

/** A certificate request for the key, with the subject and the names. */
export function createRequest(
  key: KeyObject,
  subject: Subject | undefined,
  names: AlternativeNames,
): CertificateRequest {
  const body = requestBody(key, subject, names);
  const request = new CertificationRequest({
    certificationRequestInfo: body,
    signatureAlgorithm: signatureAlgorithm(key),
    signature: signatureOf(key, AsnConvert.serialize(body)),
  });
  const der = Buffer.from(AsnConvert.serialize(request));
  return {
    pem: pem("CERTIFICATE REQUEST", der),
    id: createHash("sha1").update(der).digest("hex"),
  };
}

/** What a certificate is about: who, with which key, for which names. */
export interface CertificateSubject {
  readonly name: x509.Name;
  readonly publicKey: x509.SubjectPublicKeyInfo;
  readonly alternativeNames: x509.Extension | undefined;
}

/** The subject of a self-signed certificate. */
export function selfSubject(
  key: KeyObject,
  subject: Subject | undefined,
  names: AlternativeNames,
): CertificateSubject {
  const name = nameOf(subject);
  return {
    name,
    publicKey: publicKeyInfo(key),
    alternativeNames: alternativeNames(names, name.length === 0),
  };
}

/**
 * The subject that a certificate request asks for.
 *
 * @throws when it is no certificate request in PEM
 */
export function requestedSubject(requestPem: string): CertificateSubject {
  const request = parsePem(
    "certRequestPem",
    "CERTIFICATE REQUEST",
    "certRequestPem of a CertRequest",
    requestPem,
    CertificationRequest,
  );
  const { subject, subjectPKInfo, attributes } = request.certificationRequestInfo;
  const extensions = attributes
    .filter(({ type }) => type === EXTENSION_REQUEST)
    .flatMap(({ values }) =>
      values.flatMap((value) => [...AsnConvert.parse(value, x509.Extensions)]),
    );
  const names = extensions.find(({ extnID }) => extnID === x509.id_ce_subjectAltName);
  if (names !== undefined) names.critical = subject.length === 0;
  return { name: subject, publicKey: subjectPKInfo, alternativeNames: names };
}

/** Who signs. */
export interface Issuer {
  readonly key: KeyObject;
  readonly name: x509.Name;
  /** Absent when its own certificate has none. */
  readonly subjectKeyId: Buffer | undefined;
  readonly isAuthority: boolean;
}

/**
 * The issuer that a certificate authority's certificate and key are.
 *
 * @throws when it is no certificate in PEM, or the key is another certificate's
 */
export function issuerOf(certificatePem: string, key: KeyObject): Issuer {
  const certificate = parsePem(
    "caCertPem",
    "CERTIFICATE",
    "certPem of a SelfSignedCert",
    certificatePem,
    x509.Certificate,
  ).tbsCertificate;
  const own = Buffer.from(AsnConvert.serialize(publicKeyInfo(key)));
  if (!own.equals(Buffer.from(AsnConvert.serialize(certificate.subjectPublicKeyInfo)))) {
    throw new Error(
      "caPrivateKeyPem: it must be the private key of caCertPem, got another one. Pass the key that the certificate was made with.",
    );
  }
  const find = (oid: string): ArrayBuffer | undefined =>
    certificate.extensions?.find(({ extnID }) => extnID === oid)?.extnValue.buffer;
  const keyId = find(x509.id_ce_subjectKeyIdentifier);
  const constraints = find(x509.id_ce_basicConstraints);
  return {
    key,
    name: certificate.subject,
    subjectKeyId:
      keyId === undefined
        ? undefined
        : Buffer.from(AsnConvert.parse(keyId, x509.SubjectKeyIdentifier).buffer),
    isAuthority:
      constraints !== undefined && AsnConvert.parse(constraints, x509.BasicConstraints).cA,
  };
}

export interface CertificateOptions {
  readonly subject: CertificateSubject;
  /** Who signs; absent: the subject itself, with this key. */
  readonly issuer: Issuer | KeyObject;
  readonly allowedUses: readonly string[];
  readonly isAuthority: boolean;
  /** How many authorities may stand below this one; absent: any number. */
  readonly maxPathLength: number | undefined;
  readonly setSubjectKeyId: boolean;
  /** Only for a self-signed one: an issuer's own key id is always set. */
  readonly setAuthorityKeyId: boolean;
  readonly serialNumber: Buffer;
  readonly notBefore: Date;
  readonly validityPeriodHours: number;
}

/** A serial number that no other certificate has. */
export function newSerialNumber(): Buffer {
  return randomBytes(SERIAL_BYTES);
}

export interface CertificateForms {
  readonly pem: string;
  /** The serial number, in decimal: what the official plugin takes as id. */
  readonly id: string;
  readonly notAfter: Date;
}

/** What is signed in a certificate. */
export function certificateBody(options: CertificateOptions): x509.TBSCertificate {
  const { subject, issuer, isAuthority } = options;
  if (isAuthority && subject.name.length === 0) {
    throw new Error(
      "subject: a certificate authority must have a name, got none. Give it a commonName.",
    );
  }
  const ownKeyId =
    isAuthority || options.setSubjectKeyId ? subjectKeyId(subject.publicKey) : undefined;
  const authorityKeyId = authorityKeyIdOf(options, ownKeyId);

  const extensions = new x509.Extensions();
  const add = (extnID: string, critical: boolean, value: object): void => {
    extensions.push(
      new x509.Extension({
        extnID,
        critical,
        extnValue: new OctetString(AsnConvert.serialize(value)),
      }),
    );
  };
  const uses = options.allowedUses;
  const usageBits = uses.reduce((bits, use) => bits | (KEY_USAGES[use] ?? 0), 0);
  if (usageBits !== 0) add(x509.id_ce_keyUsage, true, new x509.KeyUsage(usageBits));
  const purposes = uses.flatMap((use) => EXTENDED_KEY_USAGES[use] ?? []);
  if (purposes.length > 0) {
    add(x509.id_ce_extKeyUsage, false, new x509.ExtendedKeyUsage(purposes));
  }
  const pathLength = isAuthority ? options.maxPathLength : undefined;
  add(
    x509.id_ce_basicConstraints,
    true,
    new x509.BasicConstraints({
      cA: isAuthority,
      ...(pathLength === undefined ? {} : { pathLenConstraint: pathLength }),
    }),
  );
  if (ownKeyId !== undefined) {
    add(x509.id_ce_subjectKeyIdentifier, false, new x509.SubjectKeyIdentifier(ownKeyId));
  }
  if (authorityKeyId !== undefined) {
    add(
      x509.id_ce_authorityKeyIdentifier,
      false,
      new x509.AuthorityKeyIdentifier({ keyIdentifier: new x509.KeyIdentifier(authorityKeyId) }),
    );
  }
  if (subject.alternativeNames !== undefined) extensions.push(subject.alternativeNames);

  return new x509.TBSCertificate({
    version: x509.Version.v3,
    serialNumber: positiveInteger(options.serialNumber),
    signature: signatureAlgorithm(signingKey(options)),
    issuer: "name" in issuer ? issuer.name : subject.name,
    validity: new x509.Validity({ notBefore: options.notBefore, notAfter: endOf(options) }),
    subject: subject.name,
    subjectPublicKeyInfo: subject.publicKey,
    extensions,
  });
}

/** Makes and signs a certificate. */
export function createCertificate(options: CertificateOptions): CertificateForms {
  const key = signingKey(options);
  const body = certificateBody(options);
  const certificate = new x509.Certificate({
    tbsCertificate: body,
    signatureAlgorithm: signatureAlgorithm(key),
    signatureValue: signatureOf(key, AsnConvert.serialize(body)),
  });
  return {
    pem: pem("CERTIFICATE", new Uint8Array(AsnConvert.serialize(certificate))),
    id: BigInt(`0x${options.serialNumber.toString("hex")}`).toString(),
    notAfter: endOf(options),
  };
}

function signingKey({ issuer }: CertificateOptions): KeyObject {
  return "name" in issuer ? issuer.key : issuer;
}

function endOf({ notBefore, validityPeriodHours }: CertificateOptions): Date {
  return new Date(notBefore.getTime() + validityPeriodHours * HOUR_MS);
}

function authorityKeyIdOf(
  { issuer, setAuthorityKeyId, subject }: CertificateOptions,
  ownKeyId: Buffer | undefined,
): Buffer | undefined {
  if ("name" in issuer) {
    const sameName = Buffer.from(AsnConvert.serialize(issuer.name)).equals(
      Buffer.from(AsnConvert.serialize(subject.name)),
    );
    return sameName ? undefined : issuer.subjectKeyId;
  }
  if (setAuthorityKeyId && ownKeyId === undefined) {
    throw new Error(
      "setAuthorityKeyId: the certificate must have a subject key id to repeat, got none. Set setSubjectKeyId too.",
    );
  }
  return setAuthorityKeyId ? ownKeyId : undefined;
}

function nameOf(subject: Subject | undefined): x509.Name {
  const parts = NAME_PARTS.flatMap(([part, oid]) => {
    const value = subject?.[part];
    const values = typeof value === "string" ? [value] : (value ?? []);
    const attributes = values
      .filter((text) => text !== "")
      .map((text) => new x509.AttributeTypeAndValue({ type: oid, value: nameValue(part, text) }));
    return attributes.length === 0 ? [] : [new x509.RelativeDistinguishedName(attributes)];
  });
  return new x509.Name(parts);
}

function nameValue(part: keyof Subject, text: string): x509.AttributeValue {
  if (part === "emailAddress") return new x509.AttributeValue({ ia5String: text });
  // The plainest string type that can hold it, as Go chooses.
  return /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text)
    ? new x509.AttributeValue({ printableString: text })
    : new x509.AttributeValue({ utf8String: text });
}

function alternativeNames(names: AlternativeNames, critical: boolean): x509.Extension | undefined {
  const invalid = names.ipAddresses.find((address) => isIP(address) === 0);
  if (invalid !== undefined) {
    throw new Error(
      `ipAddresses: each must be an IPv4 or IPv6 address, got "${invalid}". Put host names into dnsNames.`,
    );
  }
  const list = [
    ...names.dnsNames.map((name) => new x509.GeneralName({ dNSName: name })),
    ...names.ipAddresses.map((address) => new x509.GeneralName({ iPAddress: address })),
    ...names.uris.map((uri) => new x509.GeneralName({ uniformResourceIdentifier: uri })),
  ];
  if (list.length === 0) return undefined;
  return new x509.Extension({
    extnID: x509.id_ce_subjectAltName,
    critical,
    extnValue: new OctetString(AsnConvert.serialize(new x509.SubjectAlternativeName(list))),
  });
}

function publicKeyInfo(key: KeyObject): x509.SubjectPublicKeyInfo {
  const publicKey = key.type === "public" ? key : createPublicKey(key);
  const der = publicKey.export({ type: "spki", format: "der" });
  return AsnConvert.parse(der, x509.SubjectPublicKeyInfo);
}

/** SHA-1 of the public key; of an ED25519 key the official plugin hashes the octet string around it. */
function subjectKeyId(key: x509.SubjectPublicKeyInfo): Buffer {
  const bytes = Buffer.from(key.subjectPublicKey);
  const hashed =
    key.algorithm.algorithm === ED25519
      ? Buffer.from(AsnConvert.serialize(new OctetString(bytes)))
      : bytes;
  return createHash("sha1").update(hashed).digest();
}

const ED25519 = "1.3.101.112";
const RSA_SHA256 = "1.2.840.113549.1.1.11";
const ECDSA_SHA256 = "1.2.840.10045.4.3.2";
const ECDSA_SHA384 = "1.2.840.10045.4.3.3";
const ECDSA_SHA512 = "1.2.840.10045.4.3.4";

/** The hash and the identifier that Go chooses for a key. */
function signatureChoice(key: KeyObject): { readonly hash: string | null; readonly oid: string } {
  switch (algorithmOf(key)) {
    case "RSA":
      return { hash: "sha256", oid: RSA_SHA256 };
    case "ED25519":
      return { hash: null, oid: ED25519 };
    case "ECDSA":
      switch (curveOf(key)) {
        case "P384":
          return { hash: "sha384", oid: ECDSA_SHA384 };
        case "P521":
          return { hash: "sha512", oid: ECDSA_SHA512 };
        case "P224":
        case "P256":
        case undefined:
          return { hash: "sha256", oid: ECDSA_SHA256 };
      }
  }
}

const ASN1_NULL = new Uint8Array([0x05, 0x00]).buffer;

function signatureAlgorithm(key: KeyObject): x509.AlgorithmIdentifier {
  const { oid } = signatureChoice(key);
  return new x509.AlgorithmIdentifier({
    algorithm: oid,
    ...(oid === RSA_SHA256 ? { parameters: ASN1_NULL } : {}),
  });
}

function signatureOf(key: KeyObject, content: ArrayBuffer): ArrayBuffer {
  return new Uint8Array(sign(signatureChoice(key).hash, new Uint8Array(content), key)).buffer;
}

function positiveInteger(bytes: Buffer): ArrayBuffer {
  const start = bytes.findIndex((byte) => byte !== 0);
  const trimmed = bytes.subarray(start === -1 ? bytes.length - 1 : start);
  const negative = ((trimmed[0] ?? 0) & 0x80) !== 0;
  return new Uint8Array(negative ? [0, ...trimmed] : trimmed).buffer;
}

function parsePem<T>(
  property: string,
  label: string,
  source: string,
  text: string,
  type: new () => T,
): T {
  const body = new RegExp(`-----BEGIN ${label}-----([^-]+)-----END ${label}-----`).exec(text)?.[1];
  try {
    return AsnConvert.parse(Buffer.from(body ?? "", "base64"), type);
  } catch {
    throw new Error(
      `${property}: it must be one ${label} in PEM format, got something else. Pass the ${source}.`,
    );
  }
}

/** Certificates and certificate requests, laid out as Go's `crypto/x509` lays them out for the official plugin. */
import { createHash, createPublicKey, randomBytes, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { isIP } from "node:net";
import { CertificationRequest, CertificationRequestInfo } from "@peculiar/asn1-csr";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import * as x509 from "@peculiar/asn1-x509";
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

const KEY_USAGES: Readonly<Record<string, number>> = {
  digital_signature: x509.KeyUsageFlags.digitalSignature,
  content_commitment: x509.KeyUsageFlags.nonRepudiation,
  key_encipherment: x509.KeyUsageFlags.keyEncipherment,
  data_encipherment: x509.KeyUsageFlags.dataEncipherment,
  key_agreement: x509.KeyUsageFlags.keyAgreement,
  cert_signing: x509.KeyUsageFlags.keyCertSign,
  crl_signing: x509.KeyUsageFlags.cRLSign,
  encipher_only: x509.KeyUsageFlags.encipherOnly,
  decipher_only: x509.KeyUsageFlags.decipherOnly,
};

const EXTENDED_KEY_USAGES: Readonly<Record<string, string>> = {
  any_extended: "2.5.29.37.0",
  server_auth: "1.3.6.1.5.5.7.3.1",
  client_auth: "1.3.6.1.5.5.7.3.2",
  code_signing: "1.3.6.1.5.5.7.3.3",
  email_protection: "1.3.6.1.5.5.7.3.4",
  ipsec_end_system: "1.3.6.1.5.5.7.3.5",
  ipsec_tunnel: "1.3.6.1.5.5.7.3.6",
  ipsec_user: "1.3.6.1.5.5.7.3.7",
  timestamping: "1.3.6.1.5.5.7.3.8",
  ocsp_signing: "1.3.6.1.5.5.7.3.9",
  microsoft_server_gated_crypto: "1.3.6.1.4.1.311.10.3.3",
  netscape_server_gated_crypto: "2.16.840.1.113730.4.1",
  microsoft_commercial_code_signing: "1.3.6.1.4.1.311.2.1.22",
  microsoft_kernel_code_signing: "1.3.6.1.4.1.311.61.1.1",
};

/** Every use that a certificate can be allowed. */
export const ALLOWED_USES: readonly string[] = [
  ...Object.keys(KEY_USAGES),
  ...Object.keys(EXTENDED_KEY_USAGES),
].sort();

const SERIAL_BYTES = 16;
const HOUR_MS = 3_600_000;

export interface CertificateRequest {
  readonly pem: string;
  /** SHA-1 of its DER form, in hexadecimal: what the official plugin takes as id. */
  readonly id: string;
}

/** A certificate request for the key, with the subject and the names. */
export function createRequest(
  key: KeyObject,
  subject: Subject | undefined,
  names: AlternativeNames,
): CertificateRequest {
  const extension = alternativeNames(names, false);
  const attributes =
    extension === undefined
      ? []
      : [
          new x509.Attribute({
            type: "1.2.840.113549.1.9.14",
            values: [AsnConvert.serialize(new x509.Extensions([extension]))],
          }),
        ];
  const info = new CertificationRequestInfo({
    version: 0,
    subject: nameOf(subject),
    subjectPKInfo: publicKeyInfo(key),
  });
  info.attributes.push(...attributes);
  const { algorithm, signature } = signed(key, AsnConvert.serialize(info));
  const request = new CertificationRequest({ certificationRequestInfo: info });
  request.signatureAlgorithm = algorithm;
  request.signature = signature;
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
    .filter(({ type }) => type === "1.2.840.113549.1.9.14")
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
  readonly notBefore: Date;
  readonly validityPeriodHours: number;
}

export interface CertificateForms {
  readonly pem: string;
  /** The serial number, in decimal: what the official plugin takes as id. */
  readonly id: string;
  readonly notAfter: Date;
}

/** Makes and signs a certificate. */
export function createCertificate(options: CertificateOptions): CertificateForms {
  const { subject, issuer, isAuthority } = options;
  const selfSigned = !("name" in issuer);
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

  const key = selfSigned ? issuer : issuer.key;
  const serial = randomBytes(SERIAL_BYTES);
  const notAfter = new Date(options.notBefore.getTime() + options.validityPeriodHours * HOUR_MS);
  const certificate = new x509.TBSCertificate({
    version: x509.Version.v3,
    serialNumber: positiveInteger(serial),
    signature: signatureAlgorithm(key),
    issuer: selfSigned ? subject.name : issuer.name,
    validity: new x509.Validity({ notBefore: options.notBefore, notAfter }),
    subject: subject.name,
    subjectPublicKeyInfo: subject.publicKey,
    extensions,
  });
  const { algorithm, signature } = signed(key, AsnConvert.serialize(certificate));
  const der = AsnConvert.serialize(
    new x509.Certificate({
      tbsCertificate: certificate,
      signatureAlgorithm: algorithm,
      signatureValue: signature,
    }),
  );
  return {
    pem: pem("CERTIFICATE", new Uint8Array(der)),
    id: BigInt(`0x${serial.toString("hex")}`).toString(),
    notAfter,
  };
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
  const der = createPublicKey(key).export({ type: "spki", format: "der" });
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
        default:
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

function signed(
  key: KeyObject,
  content: ArrayBuffer,
): { readonly algorithm: x509.AlgorithmIdentifier; readonly signature: ArrayBuffer } {
  const bytes = sign(signatureChoice(key).hash, new Uint8Array(content), key);
  return { algorithm: signatureAlgorithm(key), signature: new Uint8Array(bytes).buffer };
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

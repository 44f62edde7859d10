/** The embedded stand-in for the official tls plugin. */
import { BridgedProvider } from "../bridged.ts";
import type { BridgedProperties, BridgedProperty, BridgedResource } from "../bridged.ts";
import type { CheckFailure, Properties, Value } from "../provider.ts";
import { UNKNOWN, isObject } from "../values.ts";
import { ALLOWED_USES } from "./allowed-uses.ts";
import type { AlternativeNames, CertificateForms, Subject } from "./certificate.ts";
import {
  ALGORITHMS,
  CURVE_NAMES,
  algorithmOf,
  generatePrivateKey,
  keyForms,
  parsePrivateKey,
} from "./private-key.ts";
import type { Algorithm, Curve } from "./private-key.ts";

/** The release of the official plugin whose answers this one gives. */
const VERSION = "5.5.1";

/** The smallest RSA key that OpenSSL signs with by default, in bits. */
const MIN_RSA_BITS = 1024;
const HOUR_MS = 3_600_000;

/** Only certificates need the X.509 library, and it would delay every start. */
const certificates = () => import("./certificate.ts");

const text = { kind: "string", use: "required", forceNew: true } as const;
const flag = { kind: "bool", use: "optional", default: false, forceNew: true } as const;
const computed = { kind: "string", use: "computed" } as const;
const texts = { kind: "list", use: "optional", forceNew: true } as const;
const part = { kind: "string", use: "optional", forceNew: true } as const;

const subject: BridgedProperty = {
  kind: "block",
  use: "optional",
  forceNew: true,
  fields: {
    commonName: part,
    country: part,
    emailAddress: part,
    locality: part,
    organization: part,
    organizationalUnit: part,
    postalCode: part,
    province: part,
    serialNumber: part,
    streetAddresses: { ...texts, terraformName: "street_address" },
  },
};

/** What self-signed and locally signed certificates have in common. */
const certificateProperties: BridgedProperties = {
  allowedUses: { ...texts, use: "required" },
  certPem: computed,
  earlyRenewalHours: { kind: "number", use: "optional", default: 0 },
  isCaCertificate: flag,
  maxPathLength: { kind: "number", use: "optional+computed", forceNew: true },
  readyForRenewal: { kind: "bool", use: "computed", default: false },
  setSubjectKeyId: flag,
  validityEndTime: computed,
  validityPeriodHours: { kind: "number", use: "required", forceNew: true },
  validityStartTime: computed,
};

function checkHours(inputs: Properties): CheckFailure[] {
  return ["validityPeriodHours", "earlyRenewalHours"].flatMap((name) => {
    const value = inputs[name];
    return typeof value !== "number" || (Number.isSafeInteger(value) && value >= 0)
      ? []
      : [{ property: name, reason: `It must be a whole number of hours, got ${value}.` }];
  });
}

function checkOneOf(inputs: Properties, name: string, allowed: readonly string[]): CheckFailure[] {
  const value = inputs[name];
  return typeof value !== "string" || value === UNKNOWN || allowed.includes(value)
    ? []
    : [{ property: name, reason: `It must be one of ${allowed.join(", ")}, got "${value}".` }];
}

function checkCertificate(inputs: Properties): CheckFailure[] {
  const failures = checkHours(inputs);
  const uses = inputs["allowedUses"];
  if (Array.isArray(uses)) {
    uses.forEach((use, i) => {
      const name = `allowedUses[${i}]`;
      failures.push(...checkOneOf({ [name]: use }, name, ALLOWED_USES));
    });
  }
  return failures;
}

function string(value: Value | undefined): string {
  return typeof value === "string" ? value : "";
}

function number(value: Value | undefined): number {
  return typeof value === "number" ? value : 0;
}

function strings(value: Value | undefined): string[] {
  return Array.isArray(value) ? value.filter((element) => typeof element === "string") : [];
}

function names(planned: Properties): AlternativeNames {
  return {
    dnsNames: strings(planned["dnsNames"]),
    ipAddresses: strings(planned["ipAddresses"]),
    uris: strings(planned["uris"]),
  };
}

function subjectOf(planned: Properties): Subject | undefined {
  const value = planned["subject"];
  return isObject(value) ? value : undefined;
}

const privateKey: BridgedResource = {
  schemaVersion: 1,
  properties: {
    algorithm: text,
    ecdsaCurve: { kind: "string", use: "optional", default: "P224", forceNew: true },
    privateKeyOpenssh: { ...computed, secret: true },
    privateKeyPem: { ...computed, secret: true },
    privateKeyPemPkcs8: { ...computed, secret: true },
    publicKeyFingerprintMd5: computed,
    publicKeyFingerprintSha256: computed,
    publicKeyOpenssh: computed,
    publicKeyPem: computed,
    rsaBits: { kind: "number", use: "optional", default: 2048, forceNew: true },
  },
  checkInputs: (inputs) => {
    const bits = inputs["rsaBits"];
    const tooFew =
      typeof bits === "number" && !(Number.isSafeInteger(bits) && bits >= MIN_RSA_BITS);
    return [
      ...checkOneOf(inputs, "algorithm", ALGORITHMS),
      ...checkOneOf(inputs, "ecdsaCurve", CURVE_NAMES),
      ...(tooFew
        ? [
            {
              property: "rsaBits",
              reason: `It must be a whole number of at least ${MIN_RSA_BITS}, got ${bits}.`,
            },
          ]
        : []),
    ];
  },
  create: async (planned) => {
    const key = await generatePrivateKey({
      algorithm: planned["algorithm"] as Algorithm,
      rsaBits: number(planned["rsaBits"]),
      curve: planned["ecdsaCurve"] as Curve,
    });
    const { id, ...forms } = keyForms(key);
    return { id, state: { ...planned, ...forms } };
  },
};

const certRequest: BridgedResource = {
  properties: {
    certRequestPem: computed,
    dnsNames: texts,
    ipAddresses: texts,
    keyAlgorithm: computed,
    privateKeyPem: { ...text, secret: true },
    subject,
    uris: texts,
  },
  create: async (planned) => {
    const { createRequest } = await certificates();
    const key = parsePrivateKey(string(planned["privateKeyPem"]), "privateKeyPem");
    const request = createRequest(key, subjectOf(planned), names(planned));
    return {
      id: request.id,
      state: { ...planned, certRequestPem: request.pem, keyAlgorithm: algorithmOf(key) },
    };
  },
};

/**
 * The two kinds of certificate.
 *
 * @param now the present: certificates start then, and are due for renewal by it
 */
function certificateResources(now: () => Date): {
  readonly selfSignedCert: BridgedResource;
  readonly locallySignedCert: BridgedResource;
} {
  const due = (state: Properties): boolean => {
    const end = Date.parse(string(state["validityEndTime"]));
    // No end is recorded before the certificate is made.
    return end - number(state["earlyRenewalHours"]) * HOUR_MS <= now().getTime();
  };
  const renewed: Pick<BridgedResource, "modifyPlan" | "read" | "checkInputs"> = {
    checkInputs: checkCertificate,
    modifyPlan: ({ planned, prior }) =>
      prior !== undefined && due(planned)
        ? { planned: { ...planned, readyForRenewal: UNKNOWN }, replaces: ["readyForRenewal"] }
        : { planned },
    read: (_id, prior) => (due(prior) ? { ...prior, readyForRenewal: true } : prior),
  };
  const options = (planned: Properties) => ({
    allowedUses: strings(planned["allowedUses"]),
    isAuthority: planned["isCaCertificate"] === true,
    maxPathLength:
      number(planned["maxPathLength"] ?? -1) < 0 ? undefined : number(planned["maxPathLength"]),
    setSubjectKeyId: planned["setSubjectKeyId"] === true,
    setAuthorityKeyId: planned["setAuthorityKeyId"] === true,
    validityPeriodHours: number(planned["validityPeriodHours"]),
  });
  const made = (certificate: CertificateForms, notBefore: Date): Properties => ({
    certPem: certificate.pem,
    validityStartTime: notBefore.toISOString(),
    validityEndTime: certificate.notAfter.toISOString(),
  });

  return {
    selfSignedCert: {
      ...renewed,
      properties: {
        ...certificateProperties,
        dnsNames: texts,
        ipAddresses: texts,
        keyAlgorithm: computed,
        privateKeyPem: { ...text, secret: true },
        setAuthorityKeyId: flag,
        subject,
        uris: texts,
      },
      create: async (planned) => {
        const { createCertificate, newSerialNumber, selfSubject } = await certificates();
        const key = parsePrivateKey(string(planned["privateKeyPem"]), "privateKeyPem");
        const notBefore = now();
        const certificate = createCertificate({
          ...options(planned),
          subject: selfSubject(key, subjectOf(planned), names(planned)),
          issuer: key,
          serialNumber: newSerialNumber(),
          notBefore,
        });
        return {
          id: certificate.id,
          state: { ...planned, ...made(certificate, notBefore), keyAlgorithm: algorithmOf(key) },
        };
      },
    },
    locallySignedCert: {
      ...renewed,
      properties: {
        ...certificateProperties,
        caCertPem: text,
        caKeyAlgorithm: computed,
        caPrivateKeyPem: { ...text, secret: true },
        certRequestPem: text,
      },
      create: async (planned, context) => {
        const { createCertificate, issuerOf, newSerialNumber, requestedSubject } =
          await certificates();
        const key = parsePrivateKey(string(planned["caPrivateKeyPem"]), "caPrivateKeyPem");
        const issuer = issuerOf(string(planned["caCertPem"]), key);
        if (!issuer.isAuthority) {
          context.log(
            "warning",
            "caCertPem does not appear to be a certificate authority's: clients may refuse what it signs.",
          );
        }
        const notBefore = now();
        const certificate = createCertificate({
          ...options(planned),
          subject: requestedSubject(string(planned["certRequestPem"])),
          issuer,
          serialNumber: newSerialNumber(),
          notBefore,
        });
        return {
          id: certificate.id,
          state: { ...planned, ...made(certificate, notBefore), caKeyAlgorithm: algorithmOf(key) },
        };
      },
    },
  };
}

/**
 * A provider for keys, certificate requests and certificates; they live in the state alone.
 *
 * @param now the present, for tests of renewal
 */
export function tlsProvider(now: () => Date = () => new Date()): BridgedProvider {
  const { selfSignedCert, locallySignedCert } = certificateResources(now);
  return new BridgedProvider({
    name: "tls",
    version: VERSION,
    flavour: "framework",
    resources: {
      "tls:index/certRequest:CertRequest": certRequest,
      "tls:index/locallySignedCert:LocallySignedCert": locallySignedCert,
      "tls:index/privateKey:PrivateKey": privateKey,
      "tls:index/selfSignedCert:SelfSignedCert": selfSignedCert,
    },
  });
}

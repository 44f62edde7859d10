import { X509Certificate, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { mustRun } from "./command.ts";

/** A certificate with its private key, as files. */
export interface KeyPair {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** Who a certificate is for. */
export interface Subject {
  readonly commonName: string;
  /** Kubernetes reads groups from it. @default none */
  readonly organization?: string;
  /** What its holder may do with it. */
  readonly usage: "server" | "client" | "both";
  /** @default none */
  readonly dnsNames?: readonly string[];
  /** @default none */
  readonly addresses?: readonly string[];
}

/** A certificate is made anew once it has fewer days than this left. */
const RENEW_DAYS = 30;
const AUTHORITY_DAYS = 3650;
const LEAF_DAYS = 365;

/** Makes a certificate authority unless it is there already. Key files are readable by root alone. */
export async function ensureAuthority(files: KeyPair, commonName: string): Promise<void> {
  if (stillGood(files, undefined)) return;
  await make(files, [], AUTHORITY_DAYS, [
    `[dn]\nCN=${commonName}`,
    "[ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    "subjectKeyIdentifier=hash",
  ]);
}

/** Issues a certificate unless a good one of that authority is there already. */
export async function ensureCertificate(
  authority: KeyPair,
  files: KeyPair,
  subject: Subject,
): Promise<void> {
  if (stillGood(files, authority)) return;
  const usages = { server: "serverAuth", client: "clientAuth", both: "serverAuth,clientAuth" };
  const names = [
    ...(subject.dnsNames ?? []).map((name) => `DNS:${name}`),
    ...(subject.addresses ?? []).map((address) => `IP:${address}`),
  ];
  await make(files, ["-CA", authority.certificateFile, "-CAkey", authority.keyFile], LEAF_DAYS, [
    `[dn]\n${subject.organization === undefined ? "" : `O=${subject.organization}\n`}CN=${subject.commonName}`,
    "[ext]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature",
    `extendedKeyUsage=${usages[subject.usage]}`,
    "authorityKeyIdentifier=keyid",
    ...(names.length === 0 ? [] : [`subjectAltName=${names.join(",")}`]),
  ]);
}

async function make(
  files: KeyPair,
  signer: readonly string[],
  days: number,
  sections: readonly string[],
): Promise<void> {
  await mkdir(dirname(files.certificateFile), { recursive: true });
  const suffix = `.${randomBytes(4).toString("hex")}`;
  const config = ["[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no", ...sections];
  const configFile = `${files.certificateFile}.cnf${suffix}`;
  await writeFile(configFile, `${config.join("\n")}\n`);
  await mustRun(`issue ${files.certificateFile}`, [
    ...["openssl", "req", "-x509", "-new", "-newkey", "ec", "-sha256", "-nodes"],
    ...["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", String(days)],
    ...["-config", configFile, ...signer],
    ...["-keyout", files.keyFile + suffix, "-out", files.certificateFile + suffix],
  ]);
  await rm(configFile);
  await chmod(files.keyFile + suffix, 0o600);
  await rename(files.keyFile + suffix, files.keyFile);
  await rename(files.certificateFile + suffix, files.certificateFile);
}

function stillGood(files: KeyPair, authority: KeyPair | undefined): boolean {
  if (!existsSync(files.certificateFile) || !existsSync(files.keyFile)) return false;
  const certificate = new X509Certificate(readFileSync(files.certificateFile));
  const daysLeft = (Date.parse(certificate.validTo) - Date.now()) / 86_400_000;
  if (daysLeft < RENEW_DAYS) return false;
  return (
    authority === undefined ||
    certificate.verify(new X509Certificate(readFileSync(authority.certificateFile)).publicKey)
  );
}

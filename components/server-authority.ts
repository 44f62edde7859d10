import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";

/** Whom a server's authority is for. */
export interface ServerAuthorityArgs {
  /** The server's name, for the certificates' subjects. */
  readonly serverName: string;
  /** The one address under which it is reached. */
  readonly address: string;
  /** Whether the authority refuses to be deleted or replaced. */
  readonly protectData: boolean;
}

/** How long the authority's certificate lives: ten years. */
const AUTHORITY_HOURS = 87_600;
/**
 * How long the server's lives, two years, and the time before its end in which a deploy renews it: a year and a half, so
 * that one deploy a year is always in time.
 */
const CERTIFICATE_HOURS = 17_520;
const RENEW_HOURS = 13_140;

/**
 * An authority that certifies one server and no other, so that whoever trusts it trusts nobody else.
 * Its private key is a secret in the state of its stack and reaches no host.
 */
export class ServerAuthority extends pulumi.ComponentResource {
  /** The authority's certificate, PEM: what a client must trust. */
  readonly authorityPem: pulumi.Output<string>;
  /** The server's certificate, PEM. */
  readonly certificatePem: pulumi.Output<string>;
  /** The server's private key, PEM, a secret. */
  readonly privateKeyPem: pulumi.Output<string>;

  constructor(name: string, args: ServerAuthorityArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:host:ServerAuthority", name, { address: args.address }, opts);
    const child = { parent: this };
    // A new authority is one that no client trusts yet.
    const kept = { ...child, protect: args.protectData };
    const elliptic = { algorithm: "ECDSA", ecdsaCurve: "P256" } as const;
    const authorityKey = new tls.PrivateKey(`${name}-authority-key`, elliptic, kept);
    const authority = new tls.SelfSignedCert(
      `${name}-authority`,
      {
        privateKeyPem: authorityKey.privateKeyPem,
        isCaCertificate: true,
        validityPeriodHours: AUTHORITY_HOURS,
        allowedUses: ["cert_signing", "crl_signing"],
        subject: { commonName: `Authority of ${args.serverName}`, organization: "FluxBilling" },
      },
      kept,
    );
    const key = new tls.PrivateKey(`${name}-key`, elliptic, child);
    const request = new tls.CertRequest(
      `${name}-request`,
      {
        privateKeyPem: key.privateKeyPem,
        ipAddresses: [args.address],
        subject: { commonName: args.serverName },
      },
      child,
    );
    const certificate = new tls.LocallySignedCert(
      `${name}-certificate`,
      {
        certRequestPem: request.certRequestPem,
        caPrivateKeyPem: authorityKey.privateKeyPem,
        caCertPem: authority.certPem,
        validityPeriodHours: CERTIFICATE_HOURS,
        earlyRenewalHours: RENEW_HOURS,
        allowedUses: ["digital_signature", "server_auth"],
      },
      child,
    );
    this.authorityPem = authority.certPem;
    this.certificatePem = certificate.certPem;
    this.privateKeyPem = pulumi.secret(key.privateKeyPem);
    this.registerOutputs({ authorityPem: this.authorityPem });
  }
}

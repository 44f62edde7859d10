import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";

/** What the fleet's own certificate authority needs to know. */
export interface FleetAuthorityArgs {
  /** Name of the fleet, for the certificate's subject. */
  readonly fleetName: string;
}

/** How long the authority's certificate lives: ten years. */
const AUTHORITY_HOURS = 87_600;

/**
 * The authority that signs certificates for hosts where no public one does: the embedded platform,
 * a closed network. Its private key is a secret in the fleet's state and reaches no cluster.
 */
export class FleetAuthority extends pulumi.ComponentResource {
  /** The authority's certificate, PEM: what a client must trust. */
  public readonly certificatePem: pulumi.Output<string>;
  /** The authority's private key, PEM, a secret. */
  public readonly privateKeyPem: pulumi.Output<string>;

  constructor(name: string, args: FleetAuthorityArgs, opts?: pulumi.ComponentResourceOptions) {
    super("fluxbilling:fleet:FleetAuthority", name, {}, opts);
    const child = { parent: this };
    const key = new tls.PrivateKey(
      `${name}-key`,
      { algorithm: "ECDSA", ecdsaCurve: "P256" },
      child,
    );
    const certificate = new tls.SelfSignedCert(
      `${name}-certificate`,
      {
        privateKeyPem: key.privateKeyPem,
        isCaCertificate: true,
        validityPeriodHours: AUTHORITY_HOURS,
        allowedUses: ["cert_signing", "crl_signing"],
        subject: { commonName: `FluxBilling fleet ${args.fleetName}`, organization: "FluxBilling" },
      },
      child,
    );
    this.certificatePem = certificate.certPem;
    this.privateKeyPem = key.privateKeyPem;
    this.registerOutputs({ certificatePem: this.certificatePem });
  }
}

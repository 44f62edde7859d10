import { X509Certificate } from "node:crypto";
import type { IdentityProvider } from "../components/tenant-app.ts";
import { Refusal } from "../model/refusal.ts";
import type { IdentityProviderSettings, TenantSettings } from "../model/settings.ts";
import type { SecretSource } from "./secret-source.ts";

/** What a tenant's settings say about signing in and mail, parted by who may see it. */
export interface TenantIdentity {
  /** The providers without anything that signs in there. */
  readonly identityProviders: readonly IdentityProvider[];
  /**
   * Content of the files of one Secret, by their names: `provider-<name>-id` and `provider-<name>-secret`, `mail-user`
   * and `mail-password`. The names that go with secrets are here too: some relays and providers give out names that
   * nobody, and no policy, can tell from a key.
   */
  readonly credentials: Readonly<Record<string, string>>;
}

/**
 * Reads what a tenant's settings on identity and mail only name.
 *
 * @throws Refusal `SECRET_MISSING`, or `SETTING_INVALID` for a certificate that is none.
 */
export function readIdentity(
  { identity, mail }: TenantSettings,
  secrets: SecretSource,
): TenantIdentity {
  const credentials: Record<string, string> = {};
  const identityProviders = identity.providers.map((provider, index) => {
    const setting = `fluxbilling:tenant.identity.providers.${index}`;
    const { shown, signIn } = parted(provider, setting, secrets);
    if (signIn !== undefined) {
      credentials[`provider-${provider.name}-id`] = signIn.id;
      credentials[`provider-${provider.name}-secret`] = signIn.secret;
    }
    return shown;
  });
  if (mail !== undefined) {
    credentials["mail-user"] = mail.user;
    credentials["mail-password"] = secrets.read(mail.password, "fluxbilling:tenant.mail.password");
  }
  return { identityProviders, credentials };
}

interface Parted {
  readonly shown: IdentityProvider;
  readonly signIn?: { readonly id: string; readonly secret: string };
}

function parted(
  provider: IdentityProviderSettings,
  setting: string,
  secrets: SecretSource,
): Parted {
  switch (provider.kind) {
    case "saml": {
      const { certificateFile, ...shown } = provider;
      return {
        shown: {
          ...shown,
          certificate: certificate(certificateFile, `${setting}.certificateFile`, secrets),
        },
      };
    }
    case "ldap": {
      const { bindDn: id, bindPassword, ...shown } = provider;
      return {
        shown,
        signIn: { id, secret: secrets.read(bindPassword, `${setting}.bindPassword`) },
      };
    }
    case "oidc":
    case "oauth2": {
      const { clientId: id, clientSecret, ...shown } = provider;
      return {
        shown,
        signIn: { id, secret: secrets.read(clientSecret, `${setting}.clientSecret`) },
      };
    }
  }
}

/** A certificate as SAML writes it, base64 without lines: whatever else the file holds stays here. */
function certificate(path: string, setting: string, secrets: SecretSource): string {
  const content = secrets.readPublic(path, setting);
  try {
    return new X509Certificate(content).raw.toString("base64");
  } catch (error) {
    throw new Refusal(
      "SETTING_INVALID",
      `Setting "${setting}": must name a file with a PEM certificate, got "${path}" without one. Put the certificate there that the provider signs with.`,
      { cause: error },
    );
  }
}

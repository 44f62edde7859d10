import type * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { SshSettings } from "../model/settings.ts";
import type { SecretSource } from "./secret-source.ts";

/**
 * How a host is reached over SSH: its own key pinned, ours a secret.
 *
 * @param setting Where its settings are, for errors: `fluxbilling:fleet.master.ssh`.
 * @throws Refusal `SECRET_MISSING`.
 */
export function hostConnection(
  address: string,
  ssh: SshSettings,
  setting: string,
  secrets: SecretSource,
): command.types.input.remote.ConnectionArgs {
  return {
    host: address,
    port: ssh.port,
    user: ssh.user,
    hostKey: ssh.hostKey,
    privateKey: pulumi.secret(`${secrets.read(ssh.privateKey, `${setting}.privateKey`)}\n`),
    dialErrorLimit: 5,
  };
}

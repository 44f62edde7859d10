import * as pulumi from "@pulumi/pulumi";
import { DATABASES_OWNER_ROLE } from "../model/database.ts";
import { scramSalt, scramVerifier } from "../model/scram.ts";

/** What every database of the platform is made with: owned by nobody who logs in, and sorted the same on every server. */
export const NEW_DATABASE = {
  owner: DATABASES_OWNER_ROLE,
  template: "template0",
  encoding: "UTF8",
  lcCollate: "C.UTF-8",
  lcCtype: "C.UTF-8",
} as const;

/** What the server is told in place of a password: its SCRAM verifier. */
export function verifierOf(password: pulumi.Output<string>, role: string): pulumi.Output<string> {
  return pulumi.secret(password.apply((text) => scramVerifier(text, scramSalt(role))));
}

import { createHash } from "node:crypto";
import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { k3sCommand, kubeconfigCommand, postgresqlCommand } from "../model/prepared-host.ts";
import type { HostPlan } from "../model/prepared-host.ts";
import { verifierOf } from "./database-parts.ts";
import { EncryptedStorage } from "./encrypted-storage.ts";
import { installHostProgram } from "./host-program.ts";
import { ServerAuthority } from "./server-authority.ts";

/** What a host that is to be prepared needs to know. */
export interface PreparedHostArgs {
  /** Name of the location that it is for. */
  readonly locationName: string;
  /** How to reach the host, its key pinned. */
  readonly connection: command.types.input.remote.ConnectionArgs;
  /** What it is made into. Plain, so that a policy can judge it at preview. */
  readonly plan: HostPlan;
  /** Password of PostgreSQL's administrator: the host is told its verifier alone. */
  readonly adminPassword: pulumi.Output<string>;
  /** Whether the authority of its PostgreSQL refuses to be deleted. */
  readonly protectData: boolean;
}

/**
 * A bare Debian host, made into what {@link Location} adopts: a K3s and a PostgreSQL, set as
 * docs/runbooks/own-clusters.md asks for.
 *
 * Holds: nothing is installed or changed before the host has proved that its data lies encrypted
 * ({@link EncryptedStorage}), which it is asked again by each run that has something to change. K3s is
 * the release that the plan names by its checksum, PostgreSQL Debian's package in one exact version;
 * each run changes what differs and nothing else, so one that was cut off is finished by the next. No secret is in a command, a file that others read, or a log:
 * the server's key and the password's verifier come over standard input, and the password stays here.
 *
 * A change is made in place, and a delete leaves the host as it is: taking one apart is an operator's
 * act (docs/runbooks/prepare-host.md).
 */
export class PreparedHost extends pulumi.ComponentResource {
  readonly storage: EncryptedStorage;
  /** Of K3s's administrator, with the host's own address in it. A secret. */
  readonly kubeconfig: pulumi.Output<string>;
  /** Certificate of the authority that signed PostgreSQL's own, PEM. */
  readonly postgresCa: pulumi.Output<string>;

  constructor(name: string, args: PreparedHostArgs, opts?: pulumi.ComponentResourceOptions) {
    const { connection, plan } = args;
    super("fluxbilling:host:PreparedHost", name, { location: args.locationName, ...plan }, opts);
    const child = { parent: this };
    const server = new ServerAuthority(
      `${name}-server`,
      {
        serverName: `PostgreSQL of ${args.locationName}`,
        address: plan.address,
        protectData: args.protectData,
      },
      child,
    );
    const verifier = verifierOf(args.adminPassword, plan.postgresql.adminUser);
    // Neither the verifier nor the key is in a command.
    const stdin = pulumi.interpolate`${verifier}\n${server.certificatePem}${server.privateKeyPem}`;
    const programs = {
      k3s: programOf("k3s", k3sCommand(plan)),
      postgresql: programOf("postgresql", postgresqlCommand(plan)),
    };
    this.storage = new EncryptedStorage(
      `${name}-storage`,
      {
        connection,
        folders: plan.folders,
        // Whatever has one of the programs run: a disk may have been taken away since.
        askAgainFor: [
          ...Object.values(programs).flatMap(({ line, digest }) => [line, digest]),
          // With a key of 256 bits in it, its digest gives nothing away.
          pulumi.unsecret(stdin.apply(digestOf)),
        ],
      },
      child,
    );
    const run = (
      role: string,
      after: pulumi.Resource,
      inputs: Partial<command.remote.CommandArgs>,
      opts?: pulumi.CustomResourceOptions,
    ): command.remote.Command =>
      new command.remote.Command(
        `${name}-${role}`,
        { connection, logging: "none", addPreviousOutputInEnv: false, ...inputs },
        { ...child, dependsOn: [after], ...opts },
      );
    /** Brings one of our programs and runs it, again where the program, a setting or a secret has changed. */
    const install = (
      program: keyof typeof programs,
      inputs: Partial<command.remote.CommandArgs> = {},
    ): command.remote.Command => {
      const { text, digest, line } = programs[program];
      const brought = run(`${program}-program`, this.storage, { create: text });
      // For another trigger the Command is made anew, which runs its line; nothing is run for the one that goes.
      return run(program, brought, { create: line, update: line, triggers: [digest], ...inputs });
    };
    const cluster = install("k3s");
    install("postgresql", { stdin });
    const told = run(
      "kubeconfig",
      cluster,
      { create: kubeconfigCommand(plan) },
      { additionalSecretOutputs: ["stdout"] },
    );
    this.kubeconfig = pulumi.secret(told.stdout);
    this.postgresCa = server.authorityPem;
    this.registerOutputs({ kubeconfig: this.kubeconfig, postgresCa: this.postgresCa });
  }
}

/** One of our programs, as it is brought and as it is run. */
function programOf(
  program: "k3s" | "postgresql",
  line: string,
): { readonly text: string; readonly digest: string; readonly line: string } {
  const text = installHostProgram(program);
  return { text, digest: digestOf(text), line };
}

function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";

interface PairArgs {
  readonly lengthBytes: number;
  /** A shell line, run when the pair is made. */
  readonly greeting: string;
}

class Pair extends pulumi.ComponentResource {
  readonly key: pulumi.Output<string>;
  readonly said: pulumi.Output<string>;

  constructor(name: string, args: PairArgs, opts?: pulumi.ComponentResourceOptions) {
    super("engine-test:pair:Pair", name, {}, opts);
    const key = new random.RandomBytes(
      `${name}-key`,
      { length: args.lengthBytes },
      { parent: this },
    );
    const said = new command.local.Command(
      `${name}-said`,
      { create: args.greeting },
      { parent: this, dependsOn: [key] },
    );
    this.key = key.base64;
    this.said = said.stdout;
    this.registerOutputs({ key: this.key, said: this.said });
  }
}

const config = new pulumi.Config();
if (config.getBoolean("fails") === true) {
  throw new Error("The program fails because its settings say so.");
}

const pair = new Pair("one", {
  lengthBytes: config.getNumber("lengthBytes") ?? 16,
  greeting: config.get("greeting") ?? "echo hello",
});

export const said = pair.said;
export const node = process.version;
export const stack = pulumi.getStack();
/** What the program saw of its secret setting: its length, so that no output names it. */
export const secretLength = config.getSecret("secret")?.apply((secret) => secret.length);

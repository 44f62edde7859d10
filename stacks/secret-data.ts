import * as pulumi from "@pulumi/pulumi";

/**
 * Writes every Kubernetes Secret of the program as the cluster keeps it: `data`, in base64, for
 * `stringData`.
 *
 * Why: the provider does the same, but only once it knows the values. A Secret whose values are made
 * in the same run would be one thing in the plan and another in the update, and `pulumi up --plan`
 * stops at every difference. Call it before the first resource.
 */
export function writeSecretsAsData(): void {
  pulumi.runtime.registerStackTransformation(({ type, props, opts }) => {
    const { stringData, ...rest } = props as SecretInputs;
    if (type !== "kubernetes:core/v1:Secret" || stringData === undefined) {
      return undefined;
    }
    const data = pulumi.secret(
      pulumi
        .output(stringData)
        .apply((texts) =>
          Object.fromEntries(
            Object.entries(texts).map(([key, text]) => [key, Buffer.from(text).toString("base64")]),
          ),
        ),
    );
    return { props: { ...rest, data }, opts };
  });
}

interface SecretInputs {
  readonly stringData?: pulumi.Input<Readonly<Record<string, string>>>;
  readonly [input: string]: unknown;
}

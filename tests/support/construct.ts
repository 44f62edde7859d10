import * as pulumi from "@pulumi/pulumi";

/** A resource as the program registered it, secrets opened. */
export interface Registered {
  readonly type: string;
  readonly name: string;
  /** The inputs, with secrets opened. */
  readonly inputs: unknown;
  /** Paths of the inputs that are marked secret, such as `stringData`. */
  readonly secretInputs: readonly string[];
  /** The provider that was given: its URN and id. @default "" */
  readonly provider: string;
  /** Whether it refuses to be deleted. */
  readonly protect: boolean;
  /** Inputs whose changes are not applied. */
  readonly ignoreChanges: readonly string[];
  /** Name of the component that it is part of. @default "" */
  readonly parent: string;
  /** Names of the resources that must be there before it, beside those whose outputs it takes. */
  readonly dependsOn: readonly string[];
}

const SECRET_MARK = "4dabf18193072939515e22adb298388d";
const SECRET_VALUE = "1b47061264138c4ac30d75fd1eb44270";

/**
 * What the engine would answer beside the inputs, by type. A type that is not here fails the test:
 * an unforeseen resource must not pass unseen.
 */
const OUTPUTS: Readonly<Record<string, (name: string) => Record<string, unknown>>> = {
  "random:index/randomPassword:RandomPassword": (name) => ({
    result: `password-of-${name}`,
    bcryptHash: `bcrypt-of-${name}`,
  }),
  "command:remote:Command": () => ({ stdout: "{}" }),
  "random:index/randomBytes:RandomBytes": (name) => ({
    base64: Buffer.from(`bytes-of-${name}`).toString("base64"),
  }),
  "tls:index/privateKey:PrivateKey": (name) => ({
    privateKeyPem: `private-pem-of-${name}`,
    privateKeyOpenssh: `private-openssh-of-${name}`,
    publicKeyOpenssh: TEST_PUBLIC_KEY,
  }),
  "tls:index/certRequest:CertRequest": (name) => ({ certRequestPem: `request-of-${name}` }),
  "tls:index/selfSignedCert:SelfSignedCert": (name) => ({ certPem: `certificate-of-${name}` }),
  "tls:index/locallySignedCert:LocallySignedCert": (name) => ({
    certPem: `certificate-of-${name}`,
  }),
};

const ECHOED = [
  "kubernetes:",
  "postgresql:",
  "command:remote:",
  "pulumi:providers:kubernetes",
  "pulumi:providers:postgresql",
];

/** The public key of every mocked SSH key: thirty-two bytes of 7. */
export const TEST_PUBLIC_KEY =
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

/**
 * Builds a program on mocks and answers what it registered, components included.
 *
 * Proves what we ask for, not what the engine and the providers make of it.
 *
 * @throws Error When a type has no mock, two resources share a type and name, or an invoke is made.
 */
export async function construct(
  build: () => void | Promise<unknown>,
  /** What stashes of an earlier run hold, by name. @default nothing */
  stashed?: Readonly<Record<string, unknown>>,
): Promise<readonly Registered[]> {
  const registered: Registered[] = [];
  // Mocks are told no options, so they are kept as each resource is constructed.
  const options = new Map<string, pulumi.ResourceOptions>();
  const names = new Map<pulumi.Resource, string>();
  const faults: string[] = [];
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs, provider, id }) => {
        if (type === "pulumi:pulumi:Stack") {
          return { id: name, state: {} };
        }
        if (type === "pulumi:index:Stash") {
          // As the engine does: what was first put in stays.
          const { input } = inputs as { input: unknown };
          return { id: name, state: { input, output: stashed?.[name] ?? input } };
        }
        const outputs = OUTPUTS[type];
        const component = type.startsWith("fluxbilling:");
        if (
          outputs === undefined &&
          !component &&
          !ECHOED.some((prefix) => type.startsWith(prefix))
        ) {
          faults.push(`${type} "${name}" has no mock`);
        }
        if (registered.some((other) => other.type === type && other.name === name)) {
          faults.push(`${type} "${name}" is registered twice`);
        }
        const secretInputs: string[] = [];
        const opened = open(inputs, "", secretInputs) as Record<string, unknown>;
        const {
          protect = false,
          ignoreChanges = [],
          parent,
          dependsOn = [],
        } = options.get(`${type} ${name}`) ?? {};
        registered.push({
          ...{ type, name, inputs: opened, secretInputs, provider: provider ?? "" },
          ...{
            protect,
            ignoreChanges,
            parent: parent === undefined ? "" : (names.get(parent) ?? ""),
            dependsOn: [dependsOn].flat().map((one) => names.get(one as pulumi.Resource) ?? ""),
          },
        });
        return { id: id ?? `${name}-id`, state: { ...opened, ...outputs?.(name) } };
      },
      call: ({ token }) => {
        faults.push(`${token} has no mock`);
        return {};
      },
    },
    "fluxbilling",
    "test",
    false,
  );
  // The SDK takes a stack trace for every promise, which is most of what building costs.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    await pulumi.runtime.runInPulumiStack(async () => {
      pulumi.runtime.registerStackTransformation(({ type, name, opts, resource }) => {
        names.set(resource, name);
        options.set(`${type} ${name}`, opts);
        return undefined;
      });
      await build();
      return {};
    });
    await pulumi.runtime.disconnect();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  if (faults.length > 0) {
    throw new Error(faults.join("\n"));
  }
  return registered;
}

/**
 * The value at a path of nested objects and lists, `undefined` where there is none. Dots part the
 * steps; `\\.` is a dot.
 */
export function at(value: unknown, path: string): unknown {
  return path
    .split(/(?<!\\)\./)
    .map((step) => step.replaceAll("\\.", "."))
    .reduce<unknown>(
      (parent, step) =>
        typeof parent === "object" && parent !== null
          ? (parent as Record<string, unknown>)[step]
          : undefined,
      value,
    );
}

/**
 * One input of one resource.
 *
 * @throws Error When there is no such resource.
 */
export function inputOf(
  resources: readonly Registered[],
  type: string,
  name: string,
  path: string,
): unknown {
  const found = resources.find((resource) => resource.type === type && resource.name === name);
  if (found === undefined) {
    throw new Error(`the stack must have ${type} ${name}`);
  }
  return at(found.inputs, path);
}

/** The inputs of the resources of one type, by name. */
export function inputsOf(
  resources: readonly Registered[],
  type: string,
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    resources
      .filter((resource) => resource.type === type)
      .map((resource) => [resource.name, resource.inputs]),
  );
}

function open(value: unknown, path: string, secrets: string[]): unknown {
  if (Array.isArray(value)) {
    return value.map((item, index) => open(item, `${path}[${index}]`, secrets));
  }
  if (typeof value !== "object" || value === null || value instanceof pulumi.asset.Asset) {
    return value;
  }
  const record = value as Record<string, unknown>;
  if (record[SECRET_MARK] === SECRET_VALUE) {
    secrets.push(path);
    return open(record["value"], path, []);
  }
  return Object.fromEntries(
    Object.entries(record).map(([key, item]) => [
      key,
      open(item, path === "" ? key : `${path}.${key}`, secrets),
    ]),
  );
}

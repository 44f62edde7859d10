import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { deploy, destroy } from "../../embedded/deploy.ts";
import { isDeployed, rememberDeployed } from "../../embedded/deployed.ts";
import {
  LOCAL_FLEET,
  type LocalStack,
  localStackOf,
  TENANT_DOMAIN,
  writeTenantStack,
} from "../../embedded/local-fleet.ts";
import { type MachineFacts, type PlatformFacts, runOn } from "../../embedded/machines/platform.ts";
import {
  type TenantName,
  tenantName,
  type TenantNames,
  tenantNames,
  tenantStackName,
} from "../../model/tenant-name.ts";
import { type Answer, ask, kubectl, platform, type Question } from "./platform.ts";

/** A tenant on a location, as a test gets at it. */
export interface TestTenant extends TenantNames {
  readonly name: TenantName;
  readonly host: string;
  readonly location: MachineFacts;
  readonly stack: LocalStack;
}

/** A tenant by its name, whether it is deployed or not; its stack is what its settings file says. */
export function testTenant(name: string, location: MachineFacts): TestTenant {
  const tenant = tenantName(name);
  return {
    ...tenantNames(tenant),
    name: tenant,
    host: `${tenant}.${TENANT_DOMAIN}`,
    location,
    stack: localStackOf(tenantStackName(LOCAL_FLEET, tenant)),
  };
}

/** Two tenants on one location. */
export interface Neighbours {
  readonly facts: PlatformFacts;
  readonly a: TestTenant;
  readonly b: TestTenant;
}

/** What each has beside: one is as most tenants are, the other has what a tenant may have. */
const NEIGHBOURS = {
  "neighbour-a": {},
  "neighbour-b": { mqtt: true, replay: true },
} as const;
const LOCATION = "nl-1";

/**
 * Two tenants on one location, deployed; the second speaks MQTT and replays. Test files share them, because making one takes longer than asking it
 * something: whoever changes what they are makes a tenant of his own. They go when the last test file has ended.
 */
export async function neighbours(): Promise<Neighbours> {
  const facts = await platform();
  const [a, b] = await Promise.all(
    Object.entries(NEIGHBOURS).map(async ([name, more]) => {
      const stack = await writeTenantStack({ name, location: LOCATION, plan: "lite", ...more });
      const settings = [localStackOf(LOCAL_FLEET).configFile, stack.configFile];
      if (!(await isDeployed(stack, facts, settings))) {
        await deploy(stack, facts);
        await rememberDeployed(stack, facts, settings);
      }
      return testTenant(name, facts.machines[LOCATION]);
    }),
  );
  if (a === undefined || b === undefined) throw new Error("There must be two neighbours");
  return { facts, a, b };
}

/** Deletes the neighbours, where a test has made them. */
export async function deleteNeighbours(): Promise<void> {
  const facts = await platform();
  await Promise.all(
    Object.keys(NEIGHBOURS)
      .map((name) => testTenant(name, facts.machines[LOCATION]).stack)
      .filter(({ configFile }) => existsSync(configFile))
      .map(async (stack) => {
        await destroy(stack, facts);
        rmSync(stack.configFile, { force: true });
      }),
  );
}

/**
 * Settings on signing in and mail, for a tenant of its own: a provider with a secret, one with a certificate, a
 * directory, and a relay.
 *
 * @param folder Where the secrets are put, each in a file of its setting's name.
 */
export function identityIn(folder: string, { postgres }: MachineFacts): IdentityInput {
  if (postgres === undefined) throw new Error("The machine must have a PostgreSQL");
  const secret = (name: string): object => {
    const file = join(folder, name);
    writeFileSync(file, `${name}-of-the-test\n`, { mode: 0o600 });
    return { file };
  };
  return {
    identity: {
      registration: "open",
      secondFactor: ["operator", "owner"],
      sessionDays: 7,
      providers: [
        {
          ...{ kind: "oidc", name: "work", issuer: "https://login.example.com" },
          ...{ clientId: "f0".repeat(32), clientSecret: secret("clientSecret") },
        },
        {
          ...{ kind: "saml", name: "partner", entityId: "urn:example:partner" },
          ssoUrl: "https://partner.example.com/sso",
          certificateFile: postgres.caFile,
        },
        {
          ...{ kind: "ldap", name: "directory", url: "ldaps://directory.example.com" },
          ...{ bindDn: "cn=reader,dc=example,dc=com", baseDn: "dc=example,dc=com" },
          bindPassword: secret("bindPassword"),
        },
      ],
    },
    mail: {
      ...{ host: "smtp.example.com", user: "AKIAIOSFODNN7EXAMPLE", from: "billing@acme.example" },
      password: secret("password"),
    },
  };
}

interface IdentityInput {
  readonly identity: object;
  readonly mail: object;
}

/** The content of every Secret of a tenant, by the Secret's name and the file's. */
export async function secretsOf({
  location,
  namespace,
}: TestTenant): Promise<ReadonlyMap<string, ReadonlyMap<string, Buffer>>> {
  const { items } = JSON.parse(
    await kubectl(location, "get", "secrets", "--namespace", namespace, "-o", "json"),
  ) as { items: { metadata: { name: string }; data?: { [file: string]: string } }[] };
  return new Map(
    items.map(({ metadata, data = {} }) => [
      metadata.name,
      new Map(Object.entries(data).map(([file, text]) => [file, Buffer.from(text, "base64")])),
    ]),
  );
}

/** One file of one Secret of a tenant. */
export async function secretOf(tenant: TestTenant, name: string, file: string): Promise<Buffer> {
  const content = (await secretsOf(tenant)).get(name)?.get(file);
  if (content === undefined) throw new Error(`Secret ${name} must have a file ${file}`);
  return content;
}

/** Asks a tenant's application over its ingress, as its operator. */
export async function askAsOperator(tenant: TestTenant, question: Question): Promise<Answer> {
  const token = (await secretOf(tenant, "contract-seed-1", "token")).toString("base64");
  return ask(tenant.location.address, tenant.host, {
    ...question,
    headers: { ...question.headers, authorization: `Bearer ${token}` },
  });
}

/** Where a tenant's volume lies on its location's machine. */
export async function volumeFolder({ location, namespace }: TestTenant): Promise<string> {
  const volume = await kubectl(
    location,
    ...["get", "pvc", "files", "--namespace", namespace, "-o", "jsonpath={.spec.volumeName}"],
  );
  return kubectl(
    location,
    ...["get", "pv", volume, "-o", "jsonpath={.spec.hostPath.path}{.spec.local.path}"],
  );
}

/** What a command prints on a machine; fails where the command does. */
export async function onMachine(
  machine: MachineFacts,
  argv: readonly string[],
  stdin = "",
): Promise<string> {
  const { exitCode, stdout, stderr } = await runOn(machine.name, argv, { stdin });
  if (exitCode !== 0) throw new Error(`${argv.join(" ")} ended with ${exitCode}: ${stderr}`);
  return stdout;
}

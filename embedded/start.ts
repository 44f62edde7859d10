import { bringUp } from "./bring-up.ts";
import { type ChangeCounts, deploy } from "./deploy.ts";
import { isDeployed, rememberDeployed } from "./deployed.ts";
import { firstDoorPort, openDoors } from "./doors/doors.ts";
import {
  type LocalTenant,
  TENANT_DOMAIN,
  writeFleetStack,
  writeTenantStack,
} from "./local-fleet.ts";
import { asOperator, type PlatformFacts } from "./machines/platform.ts";
import { Steps } from "./steps.ts";
import { keepWarm } from "./warm/warm-plugins.ts";

/** The tenant that a newcomer finds. */
export const DEMO_TENANT: LocalTenant = { name: "demo", location: "nl-1", plan: "lite" };

/** Machines that have an ingress, in the order of their doors. */
const DOORS = ["nl-1", "fi-1", "master"] as const;

/** `npm start`: from whatever is there to a platform with a fleet and a tenant, and a table of where they are. */
export async function start(): Promise<number> {
  const steps = new Steps();
  const port = firstDoorPort();
  const { facts, images } = await bringUp(steps);
  await steps.run("doors on this machine's loopback", () =>
    openDoors(
      DOORS.map((machine, index) => ({
        port: port + index,
        machine,
        targetHost: facts.machines[machine].address,
        targetPort: 443,
      })),
      (argv) => asOperator(argv, facts),
    ),
  );
  await keepWarm(facts);
  const fleet = await writeFleetStack(facts, images);
  const tenant = await writeTenantStack(DEMO_TENANT);
  const settings = [fleet.configFile];
  for (const [kind, stack] of [
    ["fleet", fleet],
    ["tenant", tenant],
  ] as const) {
    if (stack !== fleet) settings.push(stack.configFile);
    await steps.run(`${kind}: pulumi up, stack ${stack.name}`, async (progress) => {
      if (await isDeployed(stack, facts, settings)) {
        progress("as the last up left it");
        return;
      }
      progress(describeChanges(await deploy(stack, facts)));
      await rememberDeployed(stack, facts, settings);
    });
  }
  process.stdout.write(`\n${whereThingsAre(facts, port)}\nReady after ${steps.elapsed()}.\n`);
  return 0;
}

function describeChanges(counts: ChangeCounts): string {
  return Object.entries(counts)
    .map(([change, count]) => `${count} ${change}`)
    .join(", ");
}

function whereThingsAre(facts: PlatformFacts, port: number): string {
  const rows = [
    ["machine", "address", "runs"],
    ...Object.values(facts.machines).map((machine) => [
      machine.name,
      machine.address,
      [
        "SSH",
        machine.postgres === undefined
          ? "PostgreSQL programs"
          : `PostgreSQL :${machine.postgres.port}`,
        ...(machine.cluster === undefined ? [] : ["Kubernetes", "ingress :443"]),
      ].join(", "),
    ]),
  ];
  const widths = [0, 1, 2].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const table = rows
    .map(
      (row) =>
        `  ${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}`,
    )
    .join("\n");
  const doors = DOORS.map((machine, index) => `127.0.0.1:${port + index} ${machine}`).join(", ");
  return `${table}

  The tenant's page   https://${DEMO_TENANT.name}.${TENANT_DOMAIN}:${port}/  (certificate: the fleet's own authority)
                      curl -k --resolve ${DEMO_TENANT.name}.${TENANT_DOMAIN}:${port}:127.0.0.1 https://${DEMO_TENANT.name}.${TENANT_DOMAIN}:${port}/
  Doors to ingresses  ${doors}
  Look inside         npm run kubectl -- nl-1 get pods --all-namespaces
                      npm run psql -- nl-1
                      npm run shell -- nl-1
  Try next            npm run pulumi -- preview --stack local.${DEMO_TENANT.name}
                      npm test,  npm run bench,  npm run doctor,  npm stop
`;
}

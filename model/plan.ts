/**
 * What a tenant buys. Tiers differ in quotas only: the product is the same in each.
 *
 * One table: the quota of the namespace, the limits of the roles, the policies and the price list
 * read it.
 */
export interface Plan {
  /** Price in euro cents a month. */
  readonly monthlyPriceCents: number;
  /** Pods of the application. */
  readonly replicas: number;
  /** CPU that one application pod is sure of, in thousandths of a core. */
  readonly appCpuRequestMilli: number;
  /** CPU that it can use while its neighbours leave some. */
  readonly appCpuLimitMilli: number;
  /** Memory of one application pod, in MiB; it is sure of all of it. */
  readonly appMemoryMib: number;
  /** Size of the volume for files, in GiB, as asked for when the tenant is created. */
  readonly filesGib: number;
  /** Connections of the application role. */
  readonly databaseConnections: number;
  /** Longest statement of the application, in milliseconds. A hint: a session may raise it. */
  readonly statementTimeoutMs: number;
  /** Longest idle transaction of the application, in milliseconds. A hint as well. */
  readonly idleTransactionTimeoutMs: number;
  /** Requests a second that the ingress lets through per client address. */
  readonly requestsPerSecond: number;
  /** Days that a backup is kept. */
  readonly backupRetentionDays: number;
  /** Days that the application keeps what it recorded (claim R10). */
  readonly dataRetentionDays: number;
  /** Executions that the application meters a month (claim R11). */
  readonly executionsPerMonth: number;
  /** Replays that it meters a month (claim R11). */
  readonly replaysPerMonth: number;
}

/** Days that every backup is kept at least, whatever a plan says. Source: F19. */
export const LEAST_RETENTION_DAYS = 7;

/** The price list and the quotas behind it. */
export const PLANS = {
  lite: {
    monthlyPriceCents: 495,
    replicas: 1,
    appCpuRequestMilli: 20,
    appCpuLimitMilli: 250,
    appMemoryMib: 128,
    filesGib: 2,
    databaseConnections: 10,
    statementTimeoutMs: 15_000,
    idleTransactionTimeoutMs: 30_000,
    requestsPerSecond: 20,
    backupRetentionDays: 7,
    dataRetentionDays: 7,
    executionsPerMonth: 1_000,
    replaysPerMonth: 100,
  },
  standard: {
    monthlyPriceCents: 1495,
    replicas: 1,
    appCpuRequestMilli: 50,
    appCpuLimitMilli: 500,
    appMemoryMib: 384,
    filesGib: 10,
    databaseConnections: 20,
    statementTimeoutMs: 30_000,
    idleTransactionTimeoutMs: 60_000,
    requestsPerSecond: 50,
    backupRetentionDays: 7,
    dataRetentionDays: 30,
    executionsPerMonth: 50_000,
    replaysPerMonth: 5_000,
  },
  business: {
    monthlyPriceCents: 4995,
    replicas: 2,
    appCpuRequestMilli: 200,
    appCpuLimitMilli: 1000,
    appMemoryMib: 1024,
    filesGib: 50,
    databaseConnections: 40,
    statementTimeoutMs: 60_000,
    idleTransactionTimeoutMs: 60_000,
    requestsPerSecond: 100,
    backupRetentionDays: 7,
    dataRetentionDays: 90,
    executionsPerMonth: 500_000,
    replaysPerMonth: 50_000,
  },
} as const satisfies Record<string, Plan>;

/** The name of a plan. */
export type PlanName = keyof typeof PLANS;

/** Every plan's name, cheapest first. */
export const PLAN_NAMES = Object.keys(PLANS) as readonly PlanName[];

/** The plan of a tenant that names none. */
export const DEFAULT_PLAN: PlanName = "lite";

/** CPU that the backup job is sure of, in thousandths of a core; the same in every plan. */
export const BACKUP_CPU_REQUEST_MILLI = 20;
/** CPU that it can use while its neighbours leave some. */
export const BACKUP_CPU_LIMIT_MILLI = 250;
/** Memory of the backup job, in MiB. */
export const BACKUP_MEMORY_MIB = 128;
/** Connections of the backup role: one dump, and one that a late run may overlap. */
export const BACKUP_CONNECTIONS = 2;

/** A namespace's hard limits, as Kubernetes' ResourceQuota words them. */
export type Quota = Readonly<Record<string, string>>;

/**
 * The quota of a tenant's namespace: its pods, one more while a rollout replaces the old ones, the
 * backup job, and where the tenant replays one replay. Ports on nodes and load balancers are shut
 * for everyone.
 *
 * The one more is of the largest plan: in a downgrade the pods that still run are the larger ones,
 * and without room for them the new ones would never start.
 *
 * @param replays Whether the tenant replays; a replay is as large as a pod of the application.
 */
export function planQuota(plan: Plan, replays = false): Quota {
  const pods = plan.replicas + (replays ? 1 : 0);
  const most = (key: "appCpuRequestMilli" | "appCpuLimitMilli" | "appMemoryMib"): number =>
    Math.max(...Object.values(PLANS).map((other) => other[key]));
  const cpuRequestMilli =
    pods * plan.appCpuRequestMilli + most("appCpuRequestMilli") + BACKUP_CPU_REQUEST_MILLI;
  const cpuLimitMilli =
    pods * plan.appCpuLimitMilli + most("appCpuLimitMilli") + BACKUP_CPU_LIMIT_MILLI;
  const memoryMib = pods * plan.appMemoryMib + most("appMemoryMib") + BACKUP_MEMORY_MIB;
  return {
    "requests.cpu": `${cpuRequestMilli}m`,
    "limits.cpu": `${cpuLimitMilli}m`,
    "requests.memory": `${memoryMib}Mi`,
    "limits.memory": `${memoryMib}Mi`,
    "requests.storage": `${plan.filesGib}Gi`,
    "requests.ephemeral-storage": "4Gi",
    "limits.ephemeral-storage": "4Gi",
    pods: `${pods + 2}`,
    persistentvolumeclaims: "1",
    services: "1",
    "services.nodeports": "0",
    "services.loadbalancers": "0",
    "count/secrets": "20",
    "count/configmaps": "10",
    "count/jobs.batch": "10",
    "count/cronjobs.batch": "2",
  };
}

/**
 * What the application is told of its plan, as the variables of its container: how long it keeps what it records, and
 * what it meters (claims R10, R11).
 */
export function planVariables(plan: Plan): Readonly<Record<string, string>> {
  return {
    DATA_RETENTION_DAYS: String(plan.dataRetentionDays),
    EXECUTIONS_PER_MONTH: String(plan.executionsPerMonth),
    REPLAYS_PER_MONTH: String(plan.replaysPerMonth),
  };
}

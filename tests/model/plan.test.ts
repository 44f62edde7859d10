import { describe, expect, it } from "vitest";
import {
  BACKUP_CPU_LIMIT_MILLI,
  BACKUP_CPU_REQUEST_MILLI,
  BACKUP_MEMORY_MIB,
  PLAN_NAMES,
  planQuota,
  PLANS,
} from "../../model/plan.ts";

describe("PLANS", () => {
  it("begins at EUR 4.95 and gives more of everything for more", () => {
    const plans = PLAN_NAMES.map((name) => PLANS[name]);
    expect(plans[0]?.monthlyPriceCents).toBe(495);
    for (const [index, plan] of plans.slice(1).entries()) {
      for (const [key, value] of Object.entries(plan)) {
        expect(value, key).toBeGreaterThanOrEqual(plans[index]?.[key as keyof typeof plan] ?? 0);
      }
    }
  });

  it("keeps backups for seven days in every plan", () => {
    expect(PLAN_NAMES.map((name) => PLANS[name].backupRetentionDays)).toEqual(
      PLAN_NAMES.map(() => 7),
    );
  });
});

describe("planQuota", () => {
  it("leaves room for the pods, one more of them in a rollout, and the backup job", () => {
    const plan = PLANS.business;
    const quota = planQuota(plan);
    expect(quota["limits.cpu"]).toBe(
      `${(plan.replicas + 1) * plan.appCpuLimitMilli + BACKUP_CPU_LIMIT_MILLI}m`,
    );
    expect(quota["requests.cpu"]).toBe(
      `${(plan.replicas + 1) * plan.appCpuRequestMilli + BACKUP_CPU_REQUEST_MILLI}m`,
    );
    expect(quota["limits.memory"]).toBe(
      `${(plan.replicas + 1) * plan.appMemoryMib + BACKUP_MEMORY_MIB}Mi`,
    );
    expect(quota["pods"]).toBe(String(plan.replicas + 2));
  });

  it.each(PLAN_NAMES)("shuts node ports and load balancers in plan %s", (name) => {
    const quota = planQuota(PLANS[name]);
    expect([quota["services.nodeports"], quota["services.loadbalancers"]]).toEqual(["0", "0"]);
  });
});

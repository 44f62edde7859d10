import { describe, expect, it } from "vitest";
import {
  BACKUP_CPU_LIMIT_MILLI,
  BACKUP_CPU_REQUEST_MILLI,
  BACKUP_MEMORY_MIB,
  PLAN_NAMES,
  planQuota,
  PLANS,
  planVariables,
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

  it("keeps data and meters executions and replays as the price list says", () => {
    expect(PLAN_NAMES.map((name) => planVariables(PLANS[name]))).toEqual([
      { DATA_RETENTION_DAYS: "7", EXECUTIONS_PER_MONTH: "1000", REPLAYS_PER_MONTH: "100" },
      { DATA_RETENTION_DAYS: "30", EXECUTIONS_PER_MONTH: "50000", REPLAYS_PER_MONTH: "5000" },
      { DATA_RETENTION_DAYS: "90", EXECUTIONS_PER_MONTH: "500000", REPLAYS_PER_MONTH: "50000" },
    ]);
  });

  it("keeps backups for seven days in every plan", () => {
    expect(PLAN_NAMES.map((name) => PLANS[name].backupRetentionDays)).toEqual(
      PLAN_NAMES.map(() => 7),
    );
  });
});

describe("planQuota", () => {
  it("bounds the cheapest plan by its own pod, one of the largest plan, and the backup job", () => {
    const {
      "requests.cpu": request,
      "limits.cpu": limit,
      "limits.memory": memory,
      pods,
    } = planQuota(PLANS.lite);
    expect({ request, limit, memory, pods }).toEqual({
      request: "240m",
      limit: "1500m",
      memory: "1280Mi",
      pods: "3",
    });
  });

  it.each(PLAN_NAMES.flatMap((from) => PLAN_NAMES.map((to) => ({ from, to }))))(
    "has room for the rollout from $from to $to while the backup runs",
    ({ from, to }) => {
      const [before, after] = [PLANS[from], PLANS[to]];
      const quota = planQuota(after);
      const old = Math.min(before.replicas, after.replicas);
      const need = (key: "appCpuRequestMilli" | "appCpuLimitMilli" | "appMemoryMib"): number =>
        old * before[key] + Math.max(1, after.replicas - old) * after[key];
      expect({
        request:
          Number.parseInt(quota["requests.cpu"] ?? "", 10) >=
          need("appCpuRequestMilli") + BACKUP_CPU_REQUEST_MILLI,
        limit:
          Number.parseInt(quota["limits.cpu"] ?? "", 10) >=
          need("appCpuLimitMilli") + BACKUP_CPU_LIMIT_MILLI,
        memory:
          Number.parseInt(quota["limits.memory"] ?? "", 10) >=
          need("appMemoryMib") + BACKUP_MEMORY_MIB,
      }).toEqual({ request: true, limit: true, memory: true });
    },
  );

  it.each(PLAN_NAMES)("has room for one replay more in plan %s, and for nothing else", (name) => {
    const plan = PLANS[name];
    const [quota, replaying] = [planQuota(plan), planQuota(plan, true)];
    const more = Object.entries(replaying)
      .filter(([key, value]) => value !== quota[key])
      .map(([key, value]) => [
        key,
        Number.parseInt(value, 10) - Number.parseInt(quota[key] ?? "", 10),
      ]);
    expect(Object.fromEntries(more)).toEqual({
      pods: 1,
      "requests.cpu": plan.appCpuRequestMilli,
      "limits.cpu": plan.appCpuLimitMilli,
      "requests.memory": plan.appMemoryMib,
      "limits.memory": plan.appMemoryMib,
    });
  });

  it.each(PLAN_NAMES)("shuts node ports and load balancers in plan %s", (name) => {
    const quota = planQuota(PLANS[name]);
    expect([quota["services.nodeports"], quota["services.loadbalancers"]]).toEqual(["0", "0"]);
  });
});

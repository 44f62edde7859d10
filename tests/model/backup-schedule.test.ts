import { describe, expect, it } from "vitest";
import { backupSchedule } from "../../model/backup-schedule.ts";
import { tenantName } from "../../model/tenant-name.ts";

describe("backupSchedule", () => {
  it("keeps a tenant's minute for ever", () => {
    expect(backupSchedule(tenantName("acme"))).toBe("37 4 * * *");
  });

  it("lies in the first six hours of the day", () => {
    for (let index = 0; index < 500; index += 1) {
      const [minute = "", hour = "", ...rest] = backupSchedule(tenantName(`tenant-${index}`)).split(
        " ",
      );
      expect(rest).toEqual(["*", "*", "*"]);
      expect(Number(minute)).toBeGreaterThanOrEqual(0);
      expect(Number(minute)).toBeLessThan(60);
      expect(Number(hour)).toBeLessThan(6);
    }
  });

  it("spreads tenants so that no minute of the night has more than a few of two hundred", () => {
    const perMinute = new Map<string, number>();
    for (let index = 0; index < 200; index += 1) {
      const schedule = backupSchedule(tenantName(`tenant-${index}`));
      perMinute.set(schedule, (perMinute.get(schedule) ?? 0) + 1);
    }
    expect(Math.max(...perMinute.values())).toBeLessThanOrEqual(5);
  });
});

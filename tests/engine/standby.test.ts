import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { CONTROL_PLANE_DATABASE as DATABASE } from "../../model/database.ts";
import type { MachineFacts } from "../../embedded/machines/platform.ts";
import { runOn, startMachine, stopMachine } from "../../embedded/machines/platform.ts";
import { platform, query, until } from "../support/platform.ts";

/** What the platform promises: a row on the master is on the standby within this time. */
const WITHIN_MS = 1_000;

describe("the standby", () => {
  let master: MachineFacts;

  beforeAll(async () => {
    ({ master } = (await platform()).machines);
    await query(master, "create table probe (word text primary key)", [], DATABASE);
  });

  afterAll(() => query(master, "drop table probe", [], DATABASE));

  it("has a row of the master's control plane within a second", async () => {
    await query(master, "insert into probe values ('first')", [], DATABASE);
    await until("the row on the standby", WITHIN_MS, async () =>
      (await wordsOnStandby()).includes("first"),
    );
  });

  it("tells how far it is behind", async () => {
    const [state] = await query<{ state: string; bytes: string }>(
      master,
      `select state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::text as bytes
       from pg_stat_replication where application_name = 'fluxbilling_standby'`,
    );
    expect(state?.state).toBe("streaming");
    expect(Number(state?.bytes)).toBeLessThan(16 * 1024 * 1024);
  });

  it("goes on streaming after a reboot of its machine", async () => {
    await stopMachine("standby", "crash");
    await query(master, "insert into probe values ('missed')", [], DATABASE);
    await startMachine("standby");
    await until("the missed row on the standby", 30_000, async () =>
      (await wordsOnStandby()).includes("missed"),
    );
  });
});

async function wordsOnStandby(): Promise<string> {
  const { stdout } = await runOn("standby", [
    ...["runuser", "-u", "postgres", "--"],
    ...["psql", "-XAtq", "-d", DATABASE, "-c", "select word from probe"],
  ]);
  return stdout;
}

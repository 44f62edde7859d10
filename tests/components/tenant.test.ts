import { test } from "vitest";
import { construct } from "../support/construct.ts";
import { goodTenant } from "../support/good.ts";
test("x", async () => {
  const t=Date.now();
  const r = await construct(() => { goodTenant(); });
  console.log(r.map((x) => `${x.type} ${x.name} ${x.secretInputs.join()} ${x.provider}`).join("\n"), Date.now()-t);
});

import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { expect, it } from "vitest";
import { writeSecretsAsData } from "../../stacks/secret-data.ts";
import { construct, inputsOf } from "../support/construct.ts";

it("writes Secrets as the cluster keeps them, secret still, and nothing else", async () => {
  const metadata = { name: "one" };
  const all = await construct(() => {
    writeSecretsAsData();
    new k8s.core.v1.Secret("one", {
      metadata,
      immutable: true,
      stringData: { plain: "a", later: pulumi.output("ü") },
    });
    new k8s.core.v1.Secret("two", { metadata, data: { kept: "YQ==" } });
    new k8s.core.v1.ConfigMap("three", { metadata, data: { kept: "text" } });
  });
  expect(inputsOf(all, "kubernetes:core/v1:Secret")).toMatchObject({
    one: { metadata, immutable: true, data: { plain: "YQ==", later: "w7w=" } },
    two: { metadata, data: { kept: "YQ==" } },
  });
  expect(inputsOf(all, "kubernetes:core/v1:Secret")["one"]).not.toHaveProperty("stringData");
  expect(inputsOf(all, "kubernetes:core/v1:ConfigMap")).toMatchObject({
    three: { data: { kept: "text" } },
  });
  expect(all.find(({ name }) => name === "one")?.secretInputs.join()).toContain("data");
});

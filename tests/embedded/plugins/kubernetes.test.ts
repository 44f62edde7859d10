import { describe, expect, it } from "vitest";
import { KubernetesProvider } from "../../../embedded/plugins/kubernetes/kubernetes-provider.ts";
import { recordedCalls, replay } from "./replay.ts";

const CONFIGURATION = ["CheckConfig", "DiffConfig", "Configure"];

describe("KubernetesProvider against the official plugin's recording", () => {
  it("checks and compares its own configuration alike", async () => {
    const calls = recordedCalls("kubernetes").filter(({ method }) => CONFIGURATION.includes(method));
    expect(calls.length).toBe(21);
    expect(await replay(new KubernetesProvider(), calls)).toEqual([]);
  });

  it("checks inputs alike, automatic names and Secrets included", async () => {
    const calls = recordedCalls("kubernetes").filter(({ method }) => method === "Check");
    expect(calls.length).toBe(200);
    expect(await replay(new KubernetesProvider(), calls)).toEqual([]);
  });

  it("finds the same differences, replacements and orders of replacement", async () => {
    const calls = recordedCalls("kubernetes").filter(({ method }) => method === "Diff");
    expect(calls.length).toBe(168);
    expect(await replay(new KubernetesProvider(), calls)).toEqual([]);
  });
});

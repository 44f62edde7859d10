/**
 * Volumes out of folders of the node: one process on each machine that runs a Kubernetes, in the place of the
 * program that K3s ships. That one makes each folder in a pod of its own and so takes seconds; here a claim is bound
 * in milliseconds.
 *
 * Settings: `KUBECONFIG`, `NODE_NAME`, and `VOLUMES_FOLDER`, which holds all volumes.
 */
import { umask } from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { ClusterApi } from "../addons/cluster-api.ts";
import { ResourceMirror } from "../cluster/resource-mirror.ts";
import { keepVolumes } from "./volumes.ts";
import type { Claim, Volume, VolumeClass } from "./volumes.ts";

const RETRY_MS = 500;

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") {
    throw new Error(`Setting "${name}": it must be given, got nothing. Set it in the environment.`);
  }
  return value;
}

async function main(): Promise<void> {
  const kubeconfig = setting("KUBECONFIG");
  const node = { name: setting("NODE_NAME"), folder: setting("VOLUMES_FOLDER") };
  const log = (line: string): void => {
    console.log(`${new Date().toISOString()} ${node.name} ${line}`);
  };
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const api = await ClusterApi.open(kubeconfig);
  let wake = Promise.withResolvers<undefined>();
  const changed = (): void => wake.resolve(undefined);
  const claims = new ResourceMirror<Claim>(config, "/api/v1/persistentvolumeclaims", changed, log);
  const volumes = new ResourceMirror<Volume>(config, "/api/v1/persistentvolumes", changed, log);
  const classes = new ResourceMirror<VolumeClass>(
    config,
    "/apis/storage.k8s.io/v1/storageclasses",
    changed,
    log,
  );
  const forever = new AbortController().signal;
  void claims.run(forever);
  void volumes.run(forever);
  void classes.run(forever);
  for (;;) {
    await wake.promise;
    wake = Promise.withResolvers<undefined>();
    const [wanted, made, known] = [claims.objects, volumes.objects, classes.objects];
    if (wanted === undefined || made === undefined || known === undefined) continue;
    try {
      for (const line of await keepVolumes(wanted, made, known, node, api)) log(line);
    } catch (error) {
      log(`tried again soon: ${error instanceof Error ? error.message : String(error)}`);
      await delay(RETRY_MS);
      changed();
    }
  }
}

// Folders get exactly the mode that they are made with.
umask(0);
for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => process.exit(0));
try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";

import { deploy } from "../../embedded/deploy.ts";
import { runPulumi } from "../../embedded/engine/engine.ts";
import { readImages } from "../../embedded/images/build-images.ts";
import { LOCAL_FLEET, localStackOf } from "../../embedded/local-fleet.ts";
import { dataFolder, diskImage } from "../../embedded/machines/disk.ts";
import { type MachineFacts, type PlatformFacts, runOn } from "../../embedded/machines/platform.ts";
import { CACHE } from "../../embedded/paths.ts";
import { VOLUME_CLASS } from "../../model/encrypted-storage.ts";
import { apply, kubectl, platform, query, until } from "../support/platform.ts";

const run = promisify(execFile);

/** Which of these words are in the blocks of a file that were ever written, read past its holes. */
const SEARCH = `
my ($file, @words) = @ARGV;
my ($seek_data, $seek_hole, $at, %found) = (3, 4, 0);
open(my $in, "<:raw", $file) or die "$file: $!";
while (defined($at = sysseek($in, $at, $seek_data))) {
  my ($end, $before) = (sysseek($in, $at, $seek_hole), "");
  sysseek($in, $at, 0);
  while ($at < $end and my $read = sysread($in, my $chunk, 1 << 20)) {
    $at += $read;
    my $text = $before . $chunk;
    index($text, $_) >= 0 and $found{$_} = 1 for @words;
    $before = substr $text, -200;
  }
}
print join "\\n", sort keys %found;
`;

describe("the storage of every machine", () => {
  let facts: PlatformFacts;
  let location: MachineFacts;

  beforeAll(async () => {
    facts = await platform();
    location = facts.machines["nl-1"];
  });

  it("is told by the fleet's stack, folder by folder, as the machine has proved it", async () => {
    const { stdout } = await runPulumi(
      ["stack", "output", "encryptedFolders", "--json"].concat(["--stack", LOCAL_FLEET]),
    );
    const told = JSON.parse(stdout) as Record<string, Record<string, string>>;
    expect(Object.keys(told).toSorted()).toEqual(["fi-1", "master", "nl-1", "standby"]);
    expect(told["nl-1"]?.["/var/lib/postgresql/15/main"]).toBe("fscrypt AES-256-XTS");
    expect([...new Set(Object.values(told).flatMap((folders) => Object.values(folders)))]).toEqual([
      "fscrypt AES-256-XTS",
    ]);
  });

  it("shows on the disk itself no row of a database and no file of a volume", async () => {
    const [bait, row, file] = [
      `bait-${randomUUID()}`,
      `row-${randomUUID()}`,
      `file-${randomUUID()}`,
    ];
    // What must show, or the search finds nothing at all: on the same disk, beside the folder of data.
    const beside = join(dirname(dataFolder("nl-1")), "bait");
    writeFileSync(beside, bait);
    const volumes = await kubectl(
      location,
      "get",
      "persistentvolumes",
      "-o",
      "jsonpath={.items[0].spec.local.path}",
    );
    expect(volumes).toMatch(/^\/var\/lib\/volumes\//);
    try {
      await query(location, "create table canary (word text)");
      await query(location, "insert into canary values ($1)", [row]);
      await query(location, "checkpoint");
      await runOn("nl-1", ["sh", "-euc", 'echo "$1" > "$2/canary"', "sh", file, volumes]);
      await run("sync", ["--file-system", beside]);
      const { stdout } = await run("perl", ["-e", SEARCH, diskImage("nl-1"), bait, row, file]);
      expect(stdout.split("\n")).toEqual([bait]);
      // It is there for whoever has the key, in the folder that the disk was searched for.
      const found = await runOn("nl-1", [
        ...["grep", "-rlFe", row, "-e", file],
        ...["/var/lib/postgresql/15/main/base", volumes],
      ]);
      expect(found.stdout.trim().split("\n")).toHaveLength(2);
    } finally {
      await query(location, "drop table canary");
      await runOn("nl-1", ["rm", "-f", `${volumes}/canary`]);
      rmSync(beside);
    }
  });

  it("has a volume for a claim that names no node once a pod mounts it, as with K3s's own provisioner", async () => {
    const { busybox } = await readImages();
    const namespace = "volume-without-a-node";
    const named = { metadata: { name: "late", namespace } };
    const phase = (): Promise<string> =>
      kubectl(location, "get", "pvc", "late", "-n", namespace, "-o", "jsonpath={.status.phase}");
    try {
      await apply(
        location,
        { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
        {
          ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", ...named },
          spec: {
            storageClassName: VOLUME_CLASS,
            accessModes: ["ReadWriteOnce"],
            resources: { requests: { storage: "1Mi" } },
          },
        },
      );
      await until("the claim to wait for a pod", 10_000, async () =>
        (await kubectl(location, "get", "events", "-n", namespace)).includes(
          "WaitForFirstConsumer",
        ),
      );
      expect(await phase()).toBe("Pending");
      await apply(location, {
        ...{ apiVersion: "v1", kind: "Pod", ...named },
        spec: {
          terminationGracePeriodSeconds: 0,
          containers: [
            {
              name: "late",
              image: `${busybox.reference}@${busybox.digest}`,
              command: [
                "/bin/busybox",
                "sh",
                "-c",
                "echo there > /files/word; /bin/busybox sleep 1000",
              ],
              volumeMounts: [{ name: "files", mountPath: "/files" }],
            },
          ],
          volumes: [{ name: "files", persistentVolumeClaim: { claimName: "late" } }],
        },
      });
      await kubectl(
        location,
        ...["wait", "pod/late", "-n", namespace, "--for=condition=Ready", "--timeout=60s"],
      );
      expect(await phase()).toBe("Bound");
    } finally {
      await kubectl(location, "delete", "namespace", namespace, "--wait=false");
    }
  });

  describe("with a folder in clear", () => {
    let folder: string;
    const fleet = localStackOf(LOCAL_FLEET);

    beforeAll(() => {
      folder = mkdtempSync(join(CACHE, "in-clear-"));
    });
    afterAll(async () => {
      rmSync(folder, { recursive: true });
      // The refusal made nothing: only what the record says of the folders is put right.
      expect(Object.keys(await deploy(fleet, facts)).toSorted()).toEqual(["unchanged", "updated"]);
    });

    it("stops the deploy, in one sentence that names folder, rule and way out", async () => {
      const settings = parse(readFileSync(fleet.configFile, "utf8")) as {
        config: {
          "fluxbilling:fleet": { locations: Record<string, { encryptedFolders: string[] }> };
        };
      };
      settings.config["fluxbilling:fleet"].locations["nl-1"]?.encryptedFolders.push(
        "/var/lib/containerd",
      );
      const configFile = join(folder, "Pulumi.local.yaml");
      writeFileSync(configFile, stringify(settings));
      await expect(deploy({ ...fleet, configFile }, facts)).rejects.toThrow(
        /"\/var\/lib\/containerd" must lie on storage encrypted with AES-256, by dm-crypt or fscrypt, got \S+ \S+ in clear\. See docs\/runbooks\/encrypted-storage\.md\./,
      );
    });
  });
});

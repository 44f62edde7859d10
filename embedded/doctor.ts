import { access } from "node:fs/promises";
import { join, relative } from "node:path";

import { DEBIAN_PACKAGES, missingPackages } from "./debian-packages.ts";
import { installedPlugins } from "./engine/plugins.ts";
import { platformFacts } from "./machines/platform.ts";
import { CACHE, ROOT } from "./paths.ts";
import { goVersion } from "./requirements.ts";
import { toolchainState } from "./toolchain/build.ts";
import { officialTry } from "./toolchain/official.ts";

/** One line of the report: what, what was found, and what to do about it. */
interface Finding {
  readonly subject: string;
  readonly found: string;
  readonly wayOut?: string;
}

/** `npm run doctor`: what is used, official or embedded and in which version; what is missing; what to do. */
export async function doctor(): Promise<number> {
  const findings = [
    ...(await machine()),
    ...(await packages()),
    ...(await toolchain()),
    ...(await plugins()),
    ...(await platform()),
  ];
  for (const { subject, found, wayOut } of findings) {
    const mark = wayOut === undefined ? "ok" : "!!";
    process.stdout.write(`  ${mark} ${subject.padEnd(28)} ${found}\n`);
    if (wayOut !== undefined) process.stdout.write(`     ${"".padEnd(28)} ${wayOut}\n`);
  }
  const missing = findings.filter((finding) => finding.wayOut !== undefined).length;
  process.stdout.write(missing === 0 ? "\nNothing is missing.\n" : `\n${missing} to mend.\n`);
  return missing === 0 ? 0 : 1;
}

async function machine(): Promise<Finding[]> {
  const user = process.getuid?.();
  const go = await goVersion();
  return [
    {
      subject: "operating system",
      found: `${process.platform} ${process.arch}`,
      ...(process.platform === "linux" ? {} : { wayOut: "Run on Linux." }),
    },
    {
      subject: "user",
      found: user === 0 ? "root" : `user id ${user}`,
      ...(user === 0 ? {} : { wayOut: "Run as root: namespaces and mounts need it." }),
    },
    { subject: "Node", found: `${process.versions.node}, from npm` },
    {
      subject: "Go",
      found: go ?? "none",
      ...(go === undefined ? { wayOut: "Install Go 1.26 or later." } : {}),
    },
  ];
}

async function packages(): Promise<Finding[]> {
  const missing = new Set(await missingPackages());
  return Object.entries(DEBIAN_PACKAGES).map(([name, use]) =>
    missing.has(name)
      ? { subject: name, found: "missing", wayOut: `apt-get install ${name} (${use})` }
      : { subject: name, found: `installed: ${use}` },
  );
}

async function toolchain(): Promise<Finding[]> {
  const tools = await toolchainState();
  return tools.map(({ tool, version, isBuilt }) => ({
    subject: tool.binary,
    found: `${version}, ${isBuilt ? "built from its Go module" : "not built"}`,
    ...(isBuilt ? {} : { wayOut: "npm start builds it." }),
  }));
}

async function plugins(): Promise<Finding[]> {
  const attempt = await officialTry();
  return [
    ...(await installedPlugins()).map(({ name, version, origin }) => ({
      subject: `plugin ${name}`,
      found: `${version}, ${origin}`,
      ...(origin === "missing" ? { wayOut: "npm start installs it." } : {}),
    })),
    {
      subject: "official Pulumi",
      found: attempt === undefined ? "not tried yet" : `one try to fetch it: ${attempt}`,
    },
  ];
}

async function platform(): Promise<Finding[]> {
  const facts = await platformFacts();
  const hasData = await access(join(CACHE, "platform")).then(
    () => true,
    () => false,
  );
  return [
    facts === undefined
      ? { subject: "platform", found: "not running", wayOut: "npm start starts it." }
      : { subject: "platform", found: `runs: ${Object.keys(facts.machines).join(", ")}` },
    { subject: "data", found: hasData ? relative(ROOT, CACHE) : "none yet" },
  ];
}

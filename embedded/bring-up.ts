import { installMissingPackages } from "./debian-packages.ts";
import { installPlugins } from "./engine/plugins.ts";
import { policyPack } from "./engine/policy-pack.ts";
import { buildImages, type Images, readImages } from "./images/build-images.ts";
import { type PlatformFacts, startPlatform } from "./machines/platform.ts";
import { assertMachineCanHost } from "./requirements.ts";
import type { Steps } from "./steps.ts";
import { buildToolchain, clearWorkshop, toolchainState } from "./toolchain/build.ts";
import { type Tool, TOOLS } from "./toolchain/tools.ts";

/** A platform that runs: its machines, and the images its clusters hold. */
export interface Running {
  readonly facts: PlatformFacts;
  readonly images: Images;
}

/**
 * Everything from a bare machine to a running platform: packages, toolchain, plugins, images, machines, clusters and
 * their add-ons. What is there already is kept; what is half there is completed.
 *
 * @throws PlatformError naming what is missing and the way out
 */
export async function bringUp(steps: Steps): Promise<Running> {
  await prepare(steps);
  const images = await readImages();
  const facts = await steps.run("machines and clusters", (progress) =>
    startPlatform({
      onProgress: (machine, step) => {
        progress(`${machine}: ${step}`);
      },
    }),
  );
  return { facts, images };
}

/** What tests of the embedded parts need before a machine runs: packages, toolchain, plugins, images, policy pack. */
export async function prepare(steps: Steps, tools: readonly Tool[] = TOOLS): Promise<void> {
  const built = await toolchainState(tools);
  await assertMachineCanHost(built.every((tool) => tool.isBuilt));
  await steps.run("Debian packages", installMissingPackages);
  await steps.run("toolchain", (progress) => buildToolchain(progress, tools));
  await steps.run("plugins", async (progress) => {
    const plugins = await installPlugins();
    progress(plugins.map(({ name, origin }) => `${name} ${origin}`).join(", "));
  });
  await steps.run("container images", async (progress) => {
    const built: string[] = [];
    await buildImages({ built: ({ name }) => built.push(name) });
    progress(built.length === 0 ? "all there" : `built ${built.join(", ")}`);
  });
  clearWorkshop();
  policyPack();
}

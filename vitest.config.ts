import { defineConfig } from "vitest/config";

/**
 * Levels, by what they need: `unit` nothing but Node, `embedded` the built toolchain and root, `platform`
 * the running platform, reached from inside the operator's network namespace.
 */
export default defineConfig({
  // Beside all else that is made, so that reinstalling the packages never meets it.
  cacheDir: ".cache/vite",
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["tests/{model,components,policies,review,stacks}/**/*.test.ts"],
          // One import of the Pulumi SDK costs a second; a test file that sets mocks sets its own.
          isolate: false,
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: "embedded",
          include: ["tests/embedded/**/*.test.ts"],
          exclude: ["tests/embedded/machines/**"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "platform",
          include: ["tests/embedded/machines/**/*.test.ts", "tests/engine/**/*.test.ts"],
          exclude: ["tests/embedded/machines/platform-stop.test.ts"],
          globalSetup: ["tests/support/after-platform-tests.ts"],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          // One platform for all: what one test reboots, another must not be using.
          fileParallelism: false,
        },
      },
      {
        test: {
          // From the host's own namespace, alone and last: it ends the platform.
          name: "stop",
          include: ["tests/embedded/machines/platform-stop.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});

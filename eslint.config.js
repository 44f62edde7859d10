import tseslint from "typescript-eslint";

/** `model` <- `components` <- `stacks` <- `index.ts`; `policies` imports only `model`. */
const layers = [
  { files: ["model/**"], forbids: ["components", "stacks", "policies", "embedded"] },
  { files: ["components/**"], forbids: ["stacks", "policies", "embedded"] },
  { files: ["stacks/**"], forbids: ["policies", "embedded"] },
  { files: ["policies/**"], forbids: ["components", "stacks", "review", "embedded"] },
  { files: ["review/**"], forbids: ["components", "embedded"] },
];

export default tseslint.config(
  { ignores: ["node_modules/**", ".cache/**", "**/dist/**"] },
  tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: {
          allowDefaultProject: [
            "eslint.config.js",
            "policies/main.cjs",
            "tests/embedded/engine/pack/main.cjs",
            "vitest.config.ts",
            "embedded/bootstrap.mjs",
          ],
        },
      },
    },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
    },
  },
  { files: ["**/*.js", "**/*.mjs", "**/*.cjs"], extends: [tseslint.configs.disableTypeChecked] },
  ...layers.map(({ files, forbids }) => ({
    files,
    rules: {
      "no-restricted-imports": [
        "error",
        {
          patterns: forbids.map((layer) => ({
            group: [`**/${layer}/**`],
            message: "See docs/architecture.md.",
          })),
        },
      ],
    },
  })),
  {
    files: ["model/**"],
    rules: {
      "no-restricted-imports": [
        "error",
        {
          patterns: [
            {
              group: [
                "@pulumi/*",
                "**/components/**",
                "**/stacks/**",
                "**/policies/**",
                "**/embedded/**",
              ],
            },
          ],
        },
      ],
    },
  },
);

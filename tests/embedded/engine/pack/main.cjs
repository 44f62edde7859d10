module.exports = import("./index.ts").then(async () =>
  (await import("node:module")).flushCompileCache(),
);

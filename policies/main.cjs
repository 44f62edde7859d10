module.exports = import("./index.ts").then(() => require("node:module").flushCompileCache());

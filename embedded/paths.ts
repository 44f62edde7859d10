import { join } from "node:path";

/** The checkout's root folder. */
export const ROOT = join(import.meta.dirname, "..");

/** The one folder, ignored by git, in which everything that is built, downloaded or kept at run time lies. */
export const CACHE = join(ROOT, ".cache");

/** Binaries of the toolchain, built or linked here. */
export const BIN = join(CACHE, "bin");

import { join } from "node:path";

/**
 * Arguments of every Go build: nothing of the checkout's place in the bytes; and nothing for debuggers, since what they
 * would be told is stripped in the end, and telling it takes a fifth of the compiler's time.
 */
export const GO_BUILD = ["build", "-trimpath", "-gcflags=all=-dwarf=false"] as const;

/**
 * The environment of every Go call: caches inside the checkout, the installed Go and no other, nothing of C.
 *
 * The compiler collects garbage late: it is a short-lived process, and spends a tenth of its time on it otherwise.
 *
 * @param path Go's own folder, modules among it
 * @param builds what is compiled already
 */
export function goEnvironment(
  path: string,
  builds: string = join(path, "build"),
): NodeJS.ProcessEnv {
  return {
    ...process.env,
    GOPATH: path,
    GOCACHE: builds,
    GOFLAGS: "-modcacherw",
    GOGC: "400",
    GOTOOLCHAIN: "local",
    GOWORK: "off",
    CGO_ENABLED: "0",
  };
}

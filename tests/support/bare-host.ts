/** A Debian host without cluster and database, as a file tree of its own over this machine's, for programs that change hosts. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a command on the host came to. */
export interface HostRun {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface BareHost {
  /** Runs shell lines there as root, to their end. */
  run(script: string, stdin?: string): Promise<HostRun>;
  /** Starts them and leaves them running. */
  start(script: string, stdin?: string): ChildProcess;
  /** Ends every process on the host and takes it away. */
  remove(): Promise<void>;
}

/** The systemd of hosts that have none: `tests/support/stand-ins/systemctl.sh`. */
export const SYSTEMCTL = join(import.meta.dirname, "stand-ins", "systemctl.sh");

/** The root is built by the first process of namespaces that end with it. */
const BOOT = `
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -m 1777 run/lock
mkdir -p run/systemd/system
rm -rf etc/postgresql var/lib/postgresql var/log/postgresql
install -d -o postgres -g postgres etc/postgresql var/lib/postgresql
install -d -o root -g postgres -m 1775 var/log/postgresql
install -m 0755 "$2" usr/local/bin/systemctl
echo ready
# As a first process must, it reaps whatever loses its parent.
while :; do sleep 0.1; done
`;

/** Makes a host. It runs this machine's Debian packages; what it writes is its own and goes with it. */
export async function bareHost(): Promise<BareHost> {
  const folder = mkdtempSync(join(tmpdir(), "bare-host-"));
  for (const part of ["upper", "work", "root"]) mkdirSync(join(folder, part));
  const root = join(folder, "root");
  const first = spawn(
    "unshare",
    [
      ...["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", BOOT],
      ...["sh", folder, SYSTEMCTL],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await once(first.stdout, "data");
  const pid = execFileSync("pgrep", ["--parent", String(first.pid)], { encoding: "utf8" }).trim();
  const start = (script: string, stdin = ""): ChildProcess => {
    const child = spawn(
      "nsenter",
      [
        ...["--target", pid, "--mount", "--pid", "--", "chroot", root, "env", "-i"],
        ...["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
        ...["HOME=/root", "sh", "-euc", script],
      ],
      { stdio: ["pipe", "pipe", "pipe"] },
    );
    child.stdin.on("error", () => undefined);
    child.stdin.end(stdin);
    return child;
  };
  return {
    start,
    run: async (script, stdin) => {
      const child = start(script, stdin);
      const told = { stdout: "", stderr: "" };
      for (const stream of ["stdout", "stderr"] as const) {
        child[stream]?.setEncoding("utf8").on("data", (text: string) => (told[stream] += text));
      }
      const [status] = (await once(child, "close")) as [number | null];
      return { status, ...told };
    },
    remove: async () => {
      const ended = once(first, "close");
      first.kill("SIGKILL");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

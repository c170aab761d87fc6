import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./processes.ts";

export interface Binaries {
  readonly dir: string;
  readonly orchestrator: string;
  readonly worker: string;
  readonly cli: string;
}

const root = join(import.meta.dir, "../..");

async function compile(): Promise<Binaries> {
  const dir = join(root, "dist");
  await mkdir(dir, { recursive: true });
  // Test files of other processes come here at the same time. The kernel gives the lock back, however its holder ends.
  await run(["flock", dir, process.execPath, "build.ts", "--if-changed"], { cwd: root, timeoutMs: 300_000 });
  return {
    dir,
    orchestrator: join(dir, "blacktree-orchestrator"),
    worker: join(dir, "blacktree-worker"),
    cli: join(dir, "blacktree"),
  };
}

let compiled: Promise<Binaries> | undefined;

/** The three programs as users have them, compiled from the sources as they are now. */
export function compiledBinaries(): Promise<Binaries> {
  compiled ??= compile();
  return compiled;
}

import { cp } from "node:fs/promises";
import { arch } from "node:os";
import { join } from "node:path";
import { cachedFolder, isFilled, testCacheFolder } from "../machine/cached-folder.ts";
import { compileTimeoutMs, findGo, goModule } from "../machine/go.ts";
import { run } from "../machine/processes.ts";

/** BuildKit is in no package, so it is compiled from its Go module. */
export const buildKitVersion = "v0.29.0";

const buildKitModule = `github.com/moby/buildkit@${buildKitVersion}`;

export interface BuildKitPrograms {
  buildkitd: string;
  buildctl: string;
  runc: string;
}

export type BuildKitAvailability =
  | { available: true; programs: BuildKitPrograms }
  | { available: false; reason: string };

/** Set to any value, it has BuildKit compiled if it is missing, which takes a few minutes. */
const compileVariable = "BLACKTREE_TEST_BUILDKIT";
const NOT_COMPILED = `BuildKit is not compiled here; ${compileVariable}=1 compiles it with Go, once`;

async function compileBuildKit(go: string, into: string): Promise<void> {
  const sources = await goModule(go, buildKitModule);
  await run(
    [
      go,
      ...["build", "-C", sources, "-o", into, "-trimpath", "-buildvcs=false"],
      `-ldflags=-s -w -X github.com/moby/buildkit/version.Version=${buildKitVersion}`,
      // These tests do not cover the engines' containerd.
      "-tags=no_containerd_worker",
      ...["./cmd/buildkitd", "./cmd/buildctl"],
    ],
    // Static, so that they run in an image that contains nothing else.
    { env: { CGO_ENABLED: "0" }, timeoutMs: compileTimeoutMs },
  );
}

/** Compiles this program as a module that requires BuildKit's. */
async function compileFrontend(go: string, into: string): Promise<void> {
  const sources = await goModule(go, buildKitModule);
  await cp(join(import.meta.dir, "frontend-without-labels/main.go"), join(into, "main.go"));
  // Readable only in the module cache.
  await Bun.write(join(into, "go.sum"), Bun.file(join(sources, "go.sum")));
  const required = `require github.com/moby/buildkit ${buildKitVersion}`;
  await Bun.write(join(into, "go.mod"), `module frontend\n\ngo 1.25\n\n${required}\n`);
  await run(
    [go, "build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "frontend", "."],
    {
      cwd: into,
      env: { CGO_ENABLED: "0" },
      timeoutMs: compileTimeoutMs,
    },
  );
}

/** Undefined while it is not compiled and is not to be compiled now. */
async function compiledFolder(
  name: string,
  program: string,
  compile: typeof compileBuildKit,
): Promise<string | undefined> {
  const folder = join(testCacheFolder(), `${name}-${buildKitVersion}-${arch()}`);
  if (await isFilled(folder, program)) return folder;
  if (!process.env[compileVariable]) return undefined;
  const go = findGo();
  if (go === null) throw new Error("Go, which compiles it, is not installed");
  return cachedFolder(folder, program, (unfinished) => compile(go, unfinished));
}

async function find(): Promise<BuildKitAvailability> {
  if (process.getuid?.() !== 0) return { available: false, reason: "buildkitd can only be started by root" };
  const runc = Bun.which("runc", { PATH: `${process.env.PATH}:/usr/sbin` });
  if (runc === null) return { available: false, reason: "runc is not installed" };
  try {
    const folder = await compiledFolder("buildkit", "buildkitd", compileBuildKit);
    if (folder === undefined) {
      return { available: false, reason: NOT_COMPILED };
    }
    const programs = { buildkitd: join(folder, "buildkitd"), buildctl: join(folder, "buildctl"), runc };
    return { available: true, programs };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { available: false, reason: `BuildKit cannot be compiled on this machine: ${reason}` };
  }
}

let found: Promise<BuildKitAvailability> | undefined;

export function findBuildKitPrograms(): Promise<BuildKitAvailability> {
  found ??= find();
  return found;
}

/**
 * The program of a frontend for Dockerfiles that ignores the labels which BuildKit passes to it, so that those of the
 * Dockerfile remain; or why there is none.
 */
export async function findFrontendWithoutLabels(): Promise<{ program?: string; reason?: string }> {
  try {
    const folder = await compiledFolder("frontend-without-labels", "frontend", compileFrontend);
    return folder ? { program: join(folder, "frontend") } : { reason: NOT_COMPILED };
  } catch (error) {
    return {
      reason: `it cannot be compiled on this machine: ${error instanceof Error ? error.message : error}`,
    };
  }
}

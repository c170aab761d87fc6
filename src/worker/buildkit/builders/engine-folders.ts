import { stat } from "node:fs/promises";
import { join } from "node:path";
import { childEnvironment, type HostEnvironment } from "../../process/child-environment.ts";
import { runInGroup } from "../../process/process-group.ts";

export interface EngineFoldersOptions {
  readonly hostEnvironment: HostEnvironment;
  /** HOME of the docker that is asked. */
  readonly home: string;
  readonly signal: AbortSignal;
}

const QUERY_TIMEOUT_MS = 20_000;
/** Where a containerd that the system starts, and not the engine, has images and build cache of the engine. */
const SYSTEM_CONTAINERD = "/var/lib/containerd";

/** Where the engine keeps images and build cache, as far as that is on this machine; none for an engine elsewhere. */
export async function engineFolders(options: EngineFoldersOptions): Promise<readonly string[]> {
  const { DOCKER_HOST = "unix://" } = options.hostEnvironment;
  if (!DOCKER_HOST.startsWith("unix://")) return [];
  const dataRoot = await askForDataRoot(options);
  if (dataRoot === undefined || !(await isThere(dataRoot))) return [];
  const isContainerdItsOwn = await isThere(join(dataRoot, "containerd/daemon"));
  if (isContainerdItsOwn || !(await isThere(SYSTEM_CONTAINERD))) return [dataRoot];
  return [dataRoot, SYSTEM_CONTAINERD];
}

async function askForDataRoot({ hostEnvironment, home, signal }: EngineFoldersOptions) {
  const { stdoutTail } = await runInGroup({
    argv: ["docker", "info", "--format={{.DockerRootDir}}"],
    cwd: home,
    environment: childEnvironment(hostEnvironment, home),
    signal: AbortSignal.any([signal, AbortSignal.timeout(QUERY_TIMEOUT_MS)]),
  });
  return stdoutTail.find((line) => line.startsWith("/"));
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

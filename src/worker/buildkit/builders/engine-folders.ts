import { stat } from "node:fs/promises";
import { join } from "node:path";
import { childEnvironment, type HostEnvironment } from "../../process/child-environment.ts";
import { runInGroup } from "../../process/process-group.ts";

export interface EngineFoldersOptions {
  readonly hostEnvironment: HostEnvironment;
  /** HOME of the docker client that is called. */
  readonly home: string;
  readonly signal: AbortSignal;
}

const QUERY_TIMEOUT_MS = 20_000;
/** Where a containerd that the system starts, instead of the engine, stores the engine's images and build cache. */
const SYSTEM_CONTAINERD = "/var/lib/containerd";

/** Folders of this machine in which the engine stores images and build cache; none for an engine elsewhere. */
export async function engineFolders(options: EngineFoldersOptions): Promise<readonly string[]> {
  const { DOCKER_HOST = "unix://" } = options.hostEnvironment;
  if (!DOCKER_HOST.startsWith("unix://")) return [];
  const dataRoot = await queryDataRoot(options);
  if (dataRoot === undefined || !(await exists(dataRoot))) return [];
  const hasOwnContainerd = await exists(join(dataRoot, "containerd/daemon"));
  if (hasOwnContainerd || !(await exists(SYSTEM_CONTAINERD))) return [dataRoot];
  return [dataRoot, SYSTEM_CONTAINERD];
}

async function queryDataRoot({ hostEnvironment, home, signal }: EngineFoldersOptions) {
  const { stdoutTail } = await runInGroup({
    argv: ["docker", "info", "--format={{.DockerRootDir}}"],
    cwd: home,
    environment: childEnvironment(hostEnvironment, home),
    signal: AbortSignal.any([signal, AbortSignal.timeout(QUERY_TIMEOUT_MS)]),
  });
  return stdoutTail.find((line) => line.startsWith("/"));
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

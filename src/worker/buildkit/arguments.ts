import { join } from "node:path";
import { BAKE_TARGET, type ImageOutput, writeBakeFile } from "./bake-file.ts";
import { buildArguments } from "./build-args.ts";
import type { BuildRequest } from "./builder.ts";
import { addedHost } from "./cache-scope.ts";
import { secretSources } from "./secret-files.ts";
import { sourcePolicyEnvironment } from "./source-policy.ts";

/** The arguments that `docker build` and `buildx build` share, with the context. */
export function buildCommandArguments(request: BuildRequest): string[] {
  const { job, paths, labels, cacheScope, cgroupParent } = request;
  const host = addedHost(cacheScope);
  return [
    `--file=${paths.dockerfile}`,
    ...(job.target ? [`--target=${job.target}`] : []),
    ...(job.platforms.length > 0 ? [`--platform=${job.platforms.join(",")}`] : []),
    ...Object.entries(labels).map(([name, value]) => `--label=${name}=${value}`),
    ...buildArguments(job.buildArgs, request.argumentTransport).args,
    ...secretSources(request).map((secret) => `--secret=${secret}`),
    `--network=${request.network}`,
    ...(cgroupParent ? [`--cgroup-parent=${cgroupParent}`] : []),
    ...(host ? [`--add-host=${host}`] : []),
    // After the job's own build arguments, so that no job can choose another tenant's namespace.
    `--build-arg=BUILDKIT_CACHE_MOUNT_NS=${cacheScope.mounts}`,
    paths.context,
  ];
}

export interface BuildxOutput extends ImageOutput {
  readonly provenance: "mode=min" | "false";
  readonly metadataFile?: string;
}

/** The arguments of buildx. Writes the file that they name, if any. */
export async function buildxArguments(request: BuildRequest, image: BuildxOutput): Promise<string[]> {
  const { provenance, metadataFile, output, tag, cacheFrom = [], cacheTo = [] } = image;
  const common = [
    `--provenance=${provenance}`,
    ...(metadataFile === undefined ? [] : [`--metadata-file=${metadataFile}`]),
  ];
  if (request.argumentTransport.kind === "bake-file" && Object.keys(request.job.buildArgs).length > 0) {
    await writeBakeFile(request, image);
    return ["bake", ...common, `--file=${request.workspace.bakeFile}`, BAKE_TARGET];
  }
  return [
    "build",
    ...common,
    `--output=${output}`,
    ...(tag === undefined ? [] : [`--tag=${tag}`]),
    ...cacheFrom.map((source) => `--cache-from=${source}`),
    ...cacheTo.map((destination) => `--cache-to=${destination}`),
    ...buildCommandArguments(request),
  ];
}

/** The run's own Docker configuration, and values of build arguments that docker takes only from here. */
export function buildEnvironment({
  environment,
  workspace,
  job,
  network,
  argumentTransport,
}: BuildRequest): Record<string, string> {
  return {
    ...environment,
    ...buildArguments(job.buildArgs, argumentTransport).environment,
    DOCKER_CONFIG: workspace.dockerConfig,
    // If a program asks git about the build context: this repository's configuration is the worker's.
    GIT_DIR: join(workspace.checkout, ".git"),
    GIT_WORK_TREE: workspace.checkout,
    ...(network === "none" && sourcePolicyEnvironment(workspace.sourcePolicy)),
  };
}

import { buildArguments } from "./build-args.ts";
import type { BuildRequest } from "./builder.ts";
import { secretArguments } from "./secret-files.ts";

/** What every way of building has in common; the context comes last. */
export function commonArguments(request: BuildRequest): string[] {
  const { job, paths, labels, cacheScope, cgroupParent } = request;
  return [
    `--file=${paths.dockerfile}`,
    ...(job.target ? [`--target=${job.target}`] : []),
    ...(job.platforms.length > 0 ? [`--platform=${job.platforms.join(",")}`] : []),
    ...Object.entries(labels).map(([name, value]) => `--label=${name}=${value}`),
    ...buildArguments(job.buildArgs).args,
    ...secretArguments(request),
    `--network=${request.network}`,
    ...(cgroupParent ? [`--cgroup-parent=${cgroupParent}`] : []),
    // Names no host that anybody asks for: extra hosts are a part of a RUN step's key, and of no image.
    ...(cacheScope.steps ? [`--add-host=${cacheScope.steps}.blacktree.invalid:127.0.0.1`] : []),
    // After the job's own, so that no job can choose another tenant's.
    `--build-arg=BUILDKIT_CACHE_MOUNT_NS=${cacheScope.mounts}`,
  ];
}

/** The run's own docker configuration, and the build arguments' values. */
export function buildEnvironment({ environment, workspace, job }: BuildRequest): Record<string, string> {
  return {
    ...environment,
    ...buildArguments(job.buildArgs).environment,
    DOCKER_CONFIG: workspace.dockerConfig,
    // For provenance buildx asks git about the checkout, and waits for whatever holds git's output open. Without
    // provenance nobody reads the answer.
    ...(!job.provenance && { BUILDX_GIT_INFO: "false" }),
  };
}

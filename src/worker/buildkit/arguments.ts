import { join } from "node:path";
import { buildArguments } from "./build-args.ts";
import type { BuildRequest } from "./builder.ts";
import { secretArguments } from "./secret-files.ts";
import { sourcePolicyEnvironment } from "./source-policy.ts";

/** The arguments that all builders share; the context has to follow as the last argument. */
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
    // No build looks this host up: extra hosts are part of a RUN step's cache key, and of no image.
    ...(cacheScope.steps ? [`--add-host=${cacheScope.steps}.blacktree.invalid:127.0.0.1`] : []),
    // After the job's own build arguments, so that no job can choose another tenant's namespace.
    `--build-arg=BUILDKIT_CACHE_MOUNT_NS=${cacheScope.mounts}`,
  ];
}

/** The run's own Docker configuration, and the values of the build arguments. */
export function buildEnvironment({
  environment,
  workspace,
  job,
  network,
}: BuildRequest): Record<string, string> {
  return {
    ...environment,
    ...buildArguments(job.buildArgs).environment,
    DOCKER_CONFIG: workspace.dockerConfig,
    // If a program asks git about the build context: this repository's configuration is the worker's.
    GIT_DIR: join(workspace.checkout, ".git"),
    GIT_WORK_TREE: workspace.checkout,
    ...(network === "none" && sourcePolicyEnvironment(workspace.sourcePolicy)),
  };
}

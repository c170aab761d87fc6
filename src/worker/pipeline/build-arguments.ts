import type { BuildRequest } from "./image-builder.ts";
import { secretArguments } from "./secret-files.ts";

/**
 * Docker takes a build argument's value from its own environment when only the name is given, which keeps the
 * value out of the argument list. But these names would change what docker itself, its loader or its runtime do.
 */
const MEANT_FOR_DOCKER =
  /^(PATH|HOME|USER|TMPDIR|PWD|LANG|LC_.*|LD_.*|GLIBC_.*|MALLOC_.*|GO.*|DOCKER_.*|BUILDX_.*|BUILDKIT_.*|CONTAINER.*|COMPOSE_.*|XDG_.*|SSL_.*|SSH_.*|GIT_.*|OTEL_.*|AWS_.*|AZURE_.*|ACTIONS_.*|GITHUB_.*|.*_PROXY|NO_COLOR|EXPERIMENTAL_.*|TERM|KUBECONFIG)$/i;
const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export interface BuildArguments {
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export function buildArguments(values: Readonly<Record<string, string>>): BuildArguments {
  const args: string[] = [];
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    const hidden = ENVIRONMENT_NAME.test(name) && !MEANT_FOR_DOCKER.test(name);
    if (hidden) environment[name] = value;
    args.push(`--build-arg=${hidden ? name : `${name}=${value}`}`);
  }
  return { args, environment };
}

/** What every way of building has in common; the context comes last. */
export function commonArguments(request: BuildRequest): string[] {
  const { job, paths, labels, cacheScope } = request;
  return [
    `--file=${paths.dockerfile}`,
    ...(job.target ? [`--target=${job.target}`] : []),
    ...Object.entries(labels).map(([name, value]) => `--label=${name}=${value}`),
    ...buildArguments(job.buildArgs).args,
    ...secretArguments(request),
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

import { StepFailure } from "../job/failure.ts";
import type { BuildRequest } from "./builder.ts";
import { secretArguments } from "./secret-files.ts";

/**
 * Docker takes a build argument's value from its own environment when only the name is given: an argument list could be
 * read by everybody. But these names would steer docker itself, its loader or what it starts.
 */
const STEERS_DOCKER = new RegExp(
  `^(${[
    "PATH|HOME|PWD|TMPDIR|XDG_.*|KUBECONFIG|NO_COLOR",
    "LD_.*|GLIBC_.*|MALLOC_.*|GCONV_PATH|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS",
    "GO(DEBUG|GC|MAXPROCS|MEMLIMIT|TRACEBACK|RACE|COVERDIR)|SSL_CERT_(FILE|DIR)|SSH_AUTH_SOCK|OTEL_.*",
    "DOCKER_(HOST|CONTEXT|CONFIG|TLS.*|CERT_PATH|API_VERSION|CONTENT_TRUST.*|DEFAULT_PLATFORM|BUILDKIT|CLI_.*)",
    "DOCKER_(CUSTOM_HEADERS|AUTH_CONFIG|HIDE_LEGACY_COMMANDS)|BUILDX_.*|EXPERIMENTAL_BUILDKIT_.*|REGISTRY_AUTH_FILE",
    "GIT_(DIR|WORK_TREE|COMMON_DIR|CONFIG.*|EXEC_PATH|SSH.*|ASKPASS|EXTERNAL_DIFF|PAGER|EDITOR|SEQUENCE_EDITOR)",
    "GIT_(PROXY_.*|TRACE.*|TEMPLATE_DIR|INDEX_.*|OBJECT_.*|ALTERNATE_.*|CEILING_.*|DISCOVERY_.*|NAMESPACE|REDIRECT_.*)",
    "GIT_(ALLOW_PROTOCOL|PROTOCOL.*|ATTR_.*|TERMINAL_PROMPT|SSL_.*|HTTP_.*|OPTIONAL_LOCKS|REPLACE_.*)",
  ].join("|")})$`,
);

/** Those of a docker configuration, by the build arguments that they stand for. */
const PROXIES: Readonly<Record<string, string>> = {
  HTTP_PROXY: "httpProxy",
  HTTPS_PROXY: "httpsProxy",
  FTP_PROXY: "ftpProxy",
  NO_PROXY: "noProxy",
  ALL_PROXY: "allProxy",
};

type Values = Readonly<Record<string, string>>;

export interface BuildArguments {
  readonly args: readonly string[];
  readonly environment: Values;
  /** For the docker configuration: in the environment docker itself would use them. */
  readonly proxies: Values;
}

/** @throws StepFailure for an argument that could only be shown to everybody, or would do something else. */
export function buildArguments(values: Values): BuildArguments {
  const environment: Record<string, string> = {};
  const proxies: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    const proxy = PROXIES[name.toUpperCase()];
    if (proxy === undefined && STEERS_DOCKER.test(name)) throw steersDocker(name);
    if (proxy === undefined) environment[name] = value;
    else if (proxies[proxy] === undefined || proxies[proxy] === value) proxies[proxy] = value;
    else throw twoProxies(name);
  }
  return { args: Object.keys(environment).map((name) => `--build-arg=${name}`), environment, proxies };
}

function steersDocker(name: string): StepFailure {
  const message = `the build argument ${name} would steer docker itself, so it cannot be passed on; give it another name`;
  return new StepFailure({ code: "UNSUPPORTED", step: "build", message });
}

/** A docker configuration has one for both. */
function twoProxies(name: string): StepFailure {
  const message = `the build argument ${name} is given in upper and in lower case with different values`;
  return new StepFailure({ code: "UNSUPPORTED", step: "build", message });
}

/** Of RUN steps. `none` leaves them nothing but their own loopback; base images are pulled all the same. */
export const BUILD_NETWORKS = ["default", "none"] as const;
export type BuildNetwork = (typeof BUILD_NETWORKS)[number];

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

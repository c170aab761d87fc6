import { StepFailure } from "../job/failure.ts";
import type { CacheScope } from "./cache-scope.ts";

/** What buildx's bake can express. What it cannot, in any version, is a control group for RUN steps. */
export interface BakeFeatures {
  /** From buildx 0.25 on. */
  readonly extraHosts: boolean;
}

/** How the values of a job's build arguments reach BuildKit. */
export type ArgumentTransport =
  | { readonly kind: "bake-file" }
  /**
   * Docker takes a build argument's value from its environment when only the name is passed. So values stay out of the
   * argument list, which every user can read. But some names would affect docker itself.
   */
  | { readonly kind: "environment"; readonly because: string };

const BAKE_FILE: ArgumentTransport = { kind: "bake-file" };

export interface TransportOptions {
  /** Undefined for a builder without buildx. */
  readonly bake: BakeFeatures | undefined;
  readonly cgroupParent: string | undefined;
  readonly cacheScope: CacheScope;
}

export function argumentTransport({ bake, cgroupParent, cacheScope }: TransportOptions): ArgumentTransport {
  const byEnvironment = (because: string) => ({ kind: "environment", because }) as const;
  if (!bake) return byEnvironment("this worker's docker has no buildx");
  if (cgroupParent !== undefined)
    return byEnvironment("a build in a control group (BLACKTREE_BUILD_CGROUP) has no other way to pass it");
  if (cacheScope.steps !== undefined && !bake.extraHosts) {
    const jobs = "jobs with secrets, or with BLACKTREE_CACHE_SHARING=tenant";
    return byEnvironment(`for ${jobs}, buildx before 0.25 has no other way to pass it`);
  }
  return BAKE_FILE;
}

/** Variables that docker, buildx, their libraries, loader or children read. */
const AFFECTS_DOCKER = new RegExp(
  `^(${[
    "PATH|HOME|PWD|TMPDIR|XDG_.*|KUBECONFIG|NO_COLOR|DEBUG|SUDO_.*|WSL_DISTRO_NAME|GITHUB_.*",
    "LD_.*|GLIBC_.*|MALLOC_.*|GCONV_PATH|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS",
    "GO(DEBUG|GC|MAXPROCS|MEMLIMIT|TRACEBACK|RACE|COVERDIR)|SSL_CERT_(FILE|DIR)|SSH_AUTH_SOCK",
    "OTEL_.*|TRACEPARENT|TRACESTATE|BAGGAGE|JAEGER_TRACE",
    "DOCKER_(HOST|CONTEXT|CONFIG|TLS.*|CERT_PATH|API_VERSION|CONTENT_TRUST.*|DEFAULT_PLATFORM|BUILDKIT|CLI_.*)",
    "DOCKER_(CUSTOM_HEADERS|AUTH_CONFIG|HIDE_LEGACY_COMMANDS)|BUILDX_.*|EXPERIMENTAL_BUILDKIT_.*|REGISTRY_AUTH_FILE",
    "BUILDKIT_(HOST|PROGRESS|COLORS|TTY_.*|NO_CLIENT_TOKEN|DEBUG.*|TRACE.*)",
    "GIT_(DIR|WORK_TREE|COMMON_DIR|CONFIG.*|EXEC_PATH|SSH.*|ASKPASS|EXTERNAL_DIFF|PAGER|EDITOR|SEQUENCE_EDITOR)",
    "GIT_(PROXY_.*|TRACE.*|TEMPLATE_DIR|INDEX_.*|OBJECT_.*|ALTERNATE_.*|CEILING_.*|DISCOVERY_.*|NAMESPACE|REDIRECT_.*)",
    "GIT_(ALLOW_PROTOCOL|NO_LAZY_FETCH|PROTOCOL.*|ATTR_.*|TERMINAL_PROMPT|SSL_.*|HTTP_.*|OPTIONAL_LOCKS|REPLACE_.*)",
  ].join("|")})$`,
);

/** Proxy settings of a Docker configuration, by the build arguments that docker makes of them. */
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
  /** For the Docker configuration: in the environment they would apply to docker itself. */
  readonly proxies: Values;
}

const NONE: BuildArguments = { args: [], environment: {}, proxies: {} };

/**
 * What docker's client gets of the job's build arguments.
 * @throws StepFailure for an argument that cannot be passed without showing its value or affecting docker itself.
 */
export function buildArguments(values: Values, transport: ArgumentTransport): BuildArguments {
  if (transport.kind === "bake-file") return NONE;
  const environment: Record<string, string> = {};
  const proxies: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    const proxy = PROXIES[name.toUpperCase()];
    if (proxy === undefined && AFFECTS_DOCKER.test(name)) throw affectsDocker(name, transport.because);
    if (proxy === undefined) environment[name] = value;
    else if (proxies[proxy] === undefined || proxies[proxy] === value) proxies[proxy] = value;
    else throw twoProxies(name, transport.because);
  }
  return { args: Object.keys(environment).map((name) => `--build-arg=${name}`), environment, proxies };
}

function affectsDocker(name: string, because: string): StepFailure {
  return unsupported(`the build argument ${name} would affect docker itself, and ${because}; rename it`);
}

/** A Docker configuration has one value for both spellings. */
function twoProxies(name: string, because: string): StepFailure {
  return unsupported(
    `the build argument ${name} has different values in upper and in lower case, and ${because}; use one value`,
  );
}

function unsupported(message: string): StepFailure {
  return new StepFailure({ code: "UNSUPPORTED", step: "build", message });
}

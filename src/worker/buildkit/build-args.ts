import { StepFailure } from "../job/failure.ts";

/**
 * Docker takes a build argument's value from its environment when only the name is passed. So values stay out of the
 * argument list, which every user can read. But these names would affect docker itself, its loader or its children.
 */
const AFFECTS_DOCKER = new RegExp(
  `^(${[
    "PATH|HOME|PWD|TMPDIR|XDG_.*|KUBECONFIG|NO_COLOR",
    "LD_.*|GLIBC_.*|MALLOC_.*|GCONV_PATH|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS",
    "GO(DEBUG|GC|MAXPROCS|MEMLIMIT|TRACEBACK|RACE|COVERDIR)|SSL_CERT_(FILE|DIR)|SSH_AUTH_SOCK|OTEL_.*",
    "DOCKER_(HOST|CONTEXT|CONFIG|TLS.*|CERT_PATH|API_VERSION|CONTENT_TRUST.*|DEFAULT_PLATFORM|BUILDKIT|CLI_.*)",
    "DOCKER_(CUSTOM_HEADERS|AUTH_CONFIG|HIDE_LEGACY_COMMANDS)|BUILDX_.*|EXPERIMENTAL_BUILDKIT_.*|REGISTRY_AUTH_FILE",
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

/** @throws StepFailure for an argument that cannot be passed without showing its value or affecting docker itself. */
export function buildArguments(values: Values): BuildArguments {
  const environment: Record<string, string> = {};
  const proxies: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    const proxy = PROXIES[name.toUpperCase()];
    if (proxy === undefined && AFFECTS_DOCKER.test(name)) throw affectsDocker(name);
    if (proxy === undefined) environment[name] = value;
    else if (proxies[proxy] === undefined || proxies[proxy] === value) proxies[proxy] = value;
    else throw twoProxies(name);
  }
  return { args: Object.keys(environment).map((name) => `--build-arg=${name}`), environment, proxies };
}

function affectsDocker(name: string): StepFailure {
  const message = `the build argument ${name} would affect docker itself, so it cannot be passed on; rename it`;
  return new StepFailure({ code: "UNSUPPORTED", step: "build", message });
}

/** A Docker configuration has one value for both spellings. */
function twoProxies(name: string): StepFailure {
  const message = `the build argument ${name} has different values in upper and in lower case`;
  return new StepFailure({ code: "UNSUPPORTED", step: "build", message });
}

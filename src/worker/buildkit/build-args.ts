import { StepFailure } from "../job/failure.ts";

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

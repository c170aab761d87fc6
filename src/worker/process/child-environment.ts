import { join } from "node:path";
import { LOCAL_GIT_SETTINGS } from "./git-settings.ts";

/** Environment variables by name, as the worker itself has them. */
export type HostEnvironment = Readonly<Record<string, string | undefined>>;
export type ChildEnvironment = Readonly<Record<string, string>>;

/**
 * The variables of the worker's environment that git and docker need. All others are withheld: AWS credentials, tokens,
 * and the variables that change what a compiled Bun program does (BUN_OPTIONS, BUN_BE_BUN).
 */
const PASSED_ON = [
  "PATH",
  "HTTP_PROXY",
  "http_proxy",
  "HTTPS_PROXY",
  "https_proxy",
  "NO_PROXY",
  "no_proxy",
  "ALL_PROXY",
  "all_proxy",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "GIT_SSL_CAINFO",
  "DOCKER_HOST",
  "DOCKER_TLS_VERIFY",
  "DOCKER_CERT_PATH",
  "DOCKER_API_VERSION",
] as const;

/**
 * For every child process. `home` is a folder inside the worker's work folder: children read no settings of the
 * account that the worker runs as, and write nothing to its home, which may be read-only or missing. Without XDG_*
 * variables, their folders are below HOME as well.
 */
export function childEnvironment(host: HostEnvironment, home: string): ChildEnvironment {
  const environment: Record<string, string> = {
    HOME: home,
    DOCKER_CONFIG: dockerConfigIn(home),
    LANG: "C",
    LC_ALL: "C",
    ...LOCAL_GIT_SETTINGS,
    // Else buildx asks git about the build context, for provenance.
    BUILDX_GIT_INFO: "false",
  };
  for (const name of PASSED_ON) {
    const value = host[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

/** Docker's configuration folder for children with this home. */
export function dockerConfigIn(home: string): string {
  return join(home, ".docker");
}

/** For a program that the operator chose, which may need more of the worker's environment. Without Blacktree's settings. */
export function ownEnvironment(host: HostEnvironment): ChildEnvironment {
  const isPassedOn = ([name, value]: [string, string | undefined]) =>
    value !== undefined && !/^(BLACKTREE|BUN)_/.test(name);
  return Object.fromEntries(Object.entries(host).filter(isPassedOn)) as ChildEnvironment;
}

/** Environment variables of git's processes. */
import { dirname, join } from "node:path";
import type { ChildEnvironment } from "../process/child-environment.ts";
import {
  COMMON_GIT_CONFIG,
  type GitConfig,
  gitSettings,
  LOCAL_GIT_SETTINGS,
} from "../process/git-settings.ts";

const NETWORK_PROTOCOLS = ["http", "https"];

const NETWORK_CONFIG: GitConfig = [
  ...COMMON_GIT_CONFIG,
  ["credential.helper", ""],
  ["core.askPass", ""],
  // A redirect could send the token to another server, or git to a host that is not allowed: see remote.ts.
  ["http.followRedirects", "false"],
  // Every fetch is stored as a pack: its size can be checked while it grows, and the pack can be reused.
  ["fetch.unpackLimit", "1"],
];

export interface Authorization {
  /** The header is sent to this URL and those below it. */
  readonly url: string;
  /** The value of the Authorization header. */
  readonly value: string;
}

export function networkEnvironment(
  environment: ChildEnvironment,
  authorization: Authorization | undefined,
  cwd: string,
): ChildEnvironment {
  return {
    ...environment,
    ...gitSettings([...NETWORK_CONFIG, ...headerConfig(authorization)], NETWORK_PROTOCOLS),
    ...ceilingAt(cwd),
  };
}

/** For the repository whose work tree is `cwd`. */
export function localEnvironment(environment: ChildEnvironment, cwd: string): ChildEnvironment {
  return { ...environment, ...LOCAL_GIT_SETTINGS, GIT_DIR: join(cwd, ".git") };
}

/**
 * Git gets the token from its environment only: every process of the machine could read it from the argument list, and
 * git would store a URL that contains it in .git/config.
 */
function headerConfig(authorization: Authorization | undefined): GitConfig {
  if (authorization === undefined) return [];
  return [[`http.${authorization.url}.extraHeader`, `Authorization: ${authorization.value}`]];
}

/** When the .git of `cwd` is damaged, git would otherwise use a repository in one of the parent folders. */
function ceilingAt(cwd: string): Record<string, string> {
  return { GIT_CEILING_DIRECTORIES: dirname(cwd) };
}

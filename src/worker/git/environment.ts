/** Environment variables of git's processes. */
import { dirname, join } from "node:path";
import type { ChildEnvironment } from "../process/child-environment.ts";
import {
  COMMON_GIT_CONFIG,
  type GitConfig,
  gitSettings,
  LOCAL_GIT_SETTINGS,
} from "../process/git-settings.ts";

/** Below this speed for this long, git aborts a transfer. */
const LOW_SPEED_BYTES_PER_S = "1000";
const LOW_SPEED_TIME_S = "30";

const NETWORK_PROTOCOLS = ["http", "https"];

const NETWORK_CONFIG: GitConfig = [
  ...COMMON_GIT_CONFIG,
  ["credential.helper", ""],
  ["core.askPass", ""],
  // A redirect could send the token to another server, or git to a host that is not allowed: see redirects.ts.
  ["http.followRedirects", "false"],
  // Every fetch is stored as a pack: its size can be checked while it grows, and the pack can be reused.
  ["fetch.unpackLimit", "1"],
];

const NETWORK_LIMITS = {
  GIT_HTTP_LOW_SPEED_LIMIT: LOW_SPEED_BYTES_PER_S,
  GIT_HTTP_LOW_SPEED_TIME: LOW_SPEED_TIME_S,
};

export interface Credentials {
  /** The token is used for exactly this URL. */
  readonly repositoryUrl: string;
  readonly token: string | undefined;
}

export function networkEnvironment(
  environment: ChildEnvironment,
  credentials: Credentials,
  cwd: string,
): ChildEnvironment {
  return {
    ...environment,
    ...NETWORK_LIMITS,
    ...gitSettings([...NETWORK_CONFIG, ...tokenConfig(credentials)], NETWORK_PROTOCOLS),
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
function tokenConfig({ repositoryUrl, token }: Credentials): GitConfig {
  if (token === undefined) return [];
  const credentials = Buffer.from(`x-access-token:${token}`).toString("base64");
  return [[`http.${repositoryUrl}.extraHeader`, `Authorization: Basic ${credentials}`]];
}

/** When the .git of `cwd` is damaged, git would otherwise use a repository in one of the parent folders. */
function ceilingAt(cwd: string): Record<string, string> {
  return { GIT_CEILING_DIRECTORIES: dirname(cwd) };
}

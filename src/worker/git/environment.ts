/** Environment variables of git's processes. Git's configuration is in them too: an argument list is public. */
import { dirname } from "node:path";
import type { ChildEnvironment } from "../process/child-environment.ts";

/** Below this speed for this long, git aborts a transfer. */
const LOW_SPEED_BYTES_PER_S = "1000";
const LOW_SPEED_TIME_S = "30";

type GitConfig = readonly (readonly [key: string, value: string])[];

const COMMON_CONFIG: GitConfig = [
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
  ["core.logAllRefUpdates", "false"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["advice.detachedHead", "false"],
  // As many as there are cores.
  ["checkout.workers", "0"],
];

const NETWORK_CONFIG: GitConfig = [
  ...COMMON_CONFIG,
  ["protocol.allow", "never"],
  ["protocol.http.allow", "always"],
  ["protocol.https.allow", "always"],
  ["credential.helper", ""],
  ["core.askPass", ""],
  // A redirect could send the token to another server, or git to a host that is not allowed: see redirects.ts.
  ["http.followRedirects", "false"],
  // Every fetch is stored as a pack: its size can be checked while it grows, and the pack can be reused.
  ["fetch.unpackLimit", "1"],
];

const LOCAL_CONFIG: GitConfig = [...COMMON_CONFIG, ["protocol.allow", "never"]];

/** The host's configuration may have credentials and helpers that are not for this job. HOME is a folder of the run. */
const NO_HOST_CONFIG = { GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0" };

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
    ...NO_HOST_CONFIG,
    ...NETWORK_LIMITS,
    ...configVariables([...NETWORK_CONFIG, ...tokenConfig(credentials)]),
    ...ceilingAt(cwd),
  };
}

/** For commands that must not reach any server, even in a partial clone. */
export function localEnvironment(environment: ChildEnvironment, cwd: string): ChildEnvironment {
  return { ...environment, ...NO_HOST_CONFIG, ...configVariables(LOCAL_CONFIG), ...ceilingAt(cwd) };
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

function configVariables(config: GitConfig): Record<string, string> {
  const variables: Record<string, string> = { GIT_CONFIG_COUNT: String(config.length) };
  for (const [index, [key, value]] of config.entries()) {
    variables[`GIT_CONFIG_KEY_${index}`] = key;
    variables[`GIT_CONFIG_VALUE_${index}`] = value;
  }
  return variables;
}

/** When the .git of `cwd` is damaged, git would otherwise use a repository in one of the parent folders. */
function ceilingAt(cwd: string): Record<string, string> {
  return { GIT_CEILING_DIRECTORIES: dirname(cwd) };
}

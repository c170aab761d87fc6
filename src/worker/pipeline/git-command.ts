import { type SimpleGit, simpleGit } from "simple-git";
import type { ChildEnvironment } from "./child-environment.ts";
import { type GroupEnd, runInGroup } from "./process-group.ts";

export interface GitCommands {
  /** For commands that talk to the server: a process group of its own, so that git's helpers end with it. */
  network(args: readonly string[], cwd: string): Promise<GroupEnd>;
  /** For commands on what is already here. They cannot reach any server, even where a partial clone would. */
  local(cwd: string): SimpleGit;
}

export interface GitOptions {
  readonly environment: ChildEnvironment;
  /** Used for exactly this URL. */
  readonly repositoryUrl: string;
  readonly token: string | undefined;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

/** Below this speed for this long, git gives a transfer up. */
const LOW_SPEED_BYTES_PER_S = "1000";
const LOW_SPEED_TIME_S = "30";

type GitConfig = readonly (readonly [key: string, value: string])[];

const NETWORK_CONFIG: GitConfig = [
  ["protocol.allow", "never"],
  ["protocol.http.allow", "always"],
  ["protocol.https.allow", "always"],
  ["credential.helper", ""],
  ["core.hooksPath", "/dev/null"],
  ["core.askPass", ""],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["advice.detachedHead", "false"],
];

/**
 * The token goes to git by its environment alone: in the argument list every process of the machine could read it,
 * and in a URL it would end in .git/config. A redirect could carry it to another server, so none is followed.
 */
function tokenConfig(repositoryUrl: string, token: string | undefined): GitConfig {
  if (token === undefined) return [];
  const credentials = Buffer.from(`x-access-token:${token}`).toString("base64");
  return [
    [`http.${repositoryUrl}.extraHeader`, `Authorization: Basic ${credentials}`],
    ["http.followRedirects", "false"],
  ];
}

function configEnvironment(config: GitConfig): Record<string, string> {
  const environment: Record<string, string> = { GIT_CONFIG_COUNT: String(config.length) };
  for (const [index, [key, value]] of config.entries()) {
    environment[`GIT_CONFIG_KEY_${index}`] = key;
    environment[`GIT_CONFIG_VALUE_${index}`] = value;
  }
  return environment;
}

/**
 * The host's own configuration may hold credentials and helpers that are not this job's to use; HOME is the run's
 * empty folder.
 */
const NO_HOST_CONFIG = { GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0" };

const NETWORK_LIMITS = {
  GIT_HTTP_LOW_SPEED_LIMIT: LOW_SPEED_BYTES_PER_S,
  GIT_HTTP_LOW_SPEED_TIME: LOW_SPEED_TIME_S,
};

/** Of the environment only what a local command needs, since simple-git refuses to pass on more. */
function localEnvironment({ PATH = "", HOME = "", LANG = "", LC_ALL = "" }: ChildEnvironment) {
  return { PATH, HOME, LANG, LC_ALL, ...NO_HOST_CONFIG, GIT_ALLOW_PROTOCOL: "none" };
}

export function gitCommands({ environment, repositoryUrl, token, signal, onLine }: GitOptions): GitCommands {
  const networkEnvironment = {
    ...environment,
    ...NO_HOST_CONFIG,
    ...NETWORK_LIMITS,
    ...configEnvironment([...NETWORK_CONFIG, ...tokenConfig(repositoryUrl, token)]),
  };
  return {
    network: (args, cwd) =>
      runInGroup({ argv: ["git", ...args], cwd, environment: networkEnvironment, signal, onLine }),
    local: (cwd) =>
      simpleGit({
        baseDir: cwd,
        abort: signal,
        allowEnvironment: Object.keys(NO_HOST_CONFIG).concat("GIT_ALLOW_PROTOCOL"),
        unsafe: { allowUnsafeProtocolOverride: true },
      }).env(localEnvironment(environment)),
  };
}

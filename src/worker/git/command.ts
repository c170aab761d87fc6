import { dirname } from "node:path";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { type GroupEnd, runInGroup } from "../process/process-group.ts";

/** Git's helpers (git-remote-http) end with it: each command has a process group of its own. */
export interface GitCommands {
  /** For commands that talk to the server. */
  network(args: readonly string[], cwd: string, options?: NetworkOptions): Promise<GroupEnd>;
  /** For commands on what is already here. They cannot reach any server, even where a partial clone would. */
  local(args: readonly string[], cwd: string, onLine?: (line: string) => void): Promise<GroupEnd>;
}

export interface NetworkOptions {
  /** Told of each branch and tag that the server offers, as soon as it does: before anything is sent. */
  readonly onOffer?: (offer: Offer) => void;
  /** Ends this command alone. */
  readonly signal?: AbortSignal;
}

export interface Offer {
  readonly id: string;
  readonly ref: string;
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
  // It could carry the token to another server, or git to one that is not allowed: redirects.ts follows by hand.
  ["http.followRedirects", "false"],
  // Everything comes as packs, which can be watched while they grow, and handed on.
  ["fetch.unpackLimit", "1"],
];

const LOCAL_CONFIG: GitConfig = [...COMMON_CONFIG, ["protocol.allow", "never"]];

/**
 * The token goes to git by its environment alone: in the argument list every process of the machine could read it,
 * and in a URL it would end in .git/config.
 */
function tokenConfig(repositoryUrl: string, token: string | undefined): GitConfig {
  if (token === undefined) return [];
  const credentials = Buffer.from(`x-access-token:${token}`).toString("base64");
  return [[`http.${repositoryUrl}.extraHeader`, `Authorization: Basic ${credentials}`]];
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
export const NO_HOST_CONFIG = { GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0" };

/** In a folder whose .git is damaged, git would else go on in the repository that the folder is in. */
function nowhereAbove(cwd: string): Record<string, string> {
  return { GIT_CEILING_DIRECTORIES: dirname(cwd) };
}

const NETWORK_LIMITS = {
  GIT_HTTP_LOW_SPEED_LIMIT: LOW_SPEED_BYTES_PER_S,
  GIT_HTTP_LOW_SPEED_TIME: LOW_SPEED_TIME_S,
};

/** Git prints the packets that it exchanges with the server to its stderr, but not the packs among them. */
const TRACED = /^\d\d:\d\d:\d\d\.\d+ .*packet: +(\S+) (.*)$/;
const OFFER = /^([0-9a-f]{40}|[0-9a-f]{64}) (refs\/[^ \0]+)/;

function readTrace(line: string): { offer?: Offer } | undefined {
  const [, direction, packet = ""] = TRACED.exec(line) ?? [];
  if (direction === undefined) return undefined;
  const [, id, ref] = (direction === "fetch<" && OFFER.exec(packet)) || [];
  return id !== undefined && ref !== undefined ? { offer: { id, ref } } : {};
}

export function gitCommands({ environment, repositoryUrl, token, signal, onLine }: GitOptions): GitCommands {
  const networkEnvironment = {
    ...environment,
    ...NO_HOST_CONFIG,
    ...NETWORK_LIMITS,
    ...configEnvironment([...NETWORK_CONFIG, ...tokenConfig(repositoryUrl, token)]),
  };
  const localEnvironment = { ...environment, ...NO_HOST_CONFIG, ...configEnvironment(LOCAL_CONFIG) };
  return {
    async network(args, cwd, { onOffer, signal: own } = {}) {
      const end = await runInGroup({
        argv: ["git", ...args],
        cwd,
        environment: {
          ...networkEnvironment,
          ...nowhereAbove(cwd),
          ...(onOffer && { GIT_TRACE_PACKET: "2" }),
        },
        signal: own ? AbortSignal.any([signal, own]) : signal,
        onLine: (line) => {
          const traced = onOffer && readTrace(line);
          if (!traced) onLine(line);
          else if (traced.offer) onOffer(traced.offer);
        },
      });
      return onOffer ? { ...end, stderrTail: end.stderrTail.filter((line) => !TRACED.test(line)) } : end;
    },
    local: (args, cwd, onAnswer) =>
      runInGroup({
        argv: ["git", ...args],
        cwd,
        environment: { ...localEnvironment, ...nowhereAbove(cwd) },
        signal,
        onLine: onAnswer,
      }),
  };
}

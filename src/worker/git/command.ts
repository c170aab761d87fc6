import { lookup } from "node:dns/promises";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { type GroupCommand, type GroupEnd, runInGroup } from "../process/process-group.ts";
import type { RecordEnd } from "../process/record-splitter.ts";
import { type Authorization, localEnvironment, networkEnvironment } from "./environment.ts";
import {
  type AdvertisedRef,
  GitTrace,
  HTTP_TRACE,
  type HttpExchange,
  isTrace,
  PACKET_TRACE,
} from "./git-trace.ts";
import { runLocalGit } from "./local.ts";
import { SilenceWatch } from "./silence.ts";

export interface GitCommands {
  /** Commands that talk to the server, each in its own process group: git's helpers (git-remote-http) end with git. */
  network(args: readonly string[], cwd: string, options: NetworkOptions): Promise<NetworkEnd>;
  /** Commands on local files that print a few lines. Local commands cannot reach any server. */
  local(args: readonly string[], cwd: string): Promise<GroupEnd>;
  /**
   * Local commands in their own process group. For output whose length the repository chooses (listings, .gitmodules):
   * git prints it as records (-z). And for long commands with several processes (read-tree, pack-objects).
   */
  localInGroup(
    args: readonly string[],
    cwd: string,
    onRecord?: (record: string) => void,
    recordEnd?: RecordEnd,
  ): Promise<GroupEnd>;
}

export interface NetworkOptions extends Pick<GroupCommand, "onRecord" | "recordEnd"> {
  readonly authorization?: Authorization;
  /** Called for each branch and tag that the server advertises, before git requests any object. */
  readonly onAdvertisedRef?: (offer: AdvertisedRef) => void;
  /** Ends this command only, not the run. */
  readonly signal?: AbortSignal;
}

export interface NetworkEnd extends GroupEnd {
  /** The last HTTP requests that were answered. */
  readonly exchanges: readonly HttpExchange[];
  /** The command was ended because the server was silent for this long. */
  readonly silentForMs?: number;
  /** The name of a host of which the resolver says that it does not exist. */
  readonly unknownHost?: string;
}

export interface GitOptions {
  readonly environment: ChildEnvironment;
  readonly controlGroup?: string;
  readonly silenceTimeoutMs: number;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

/** As shells report a program that SIGTERM has ended. */
const ENDED = 143;
const UNRESOLVED_HOST = /^fatal: unable to access '.*': Could not resolve (?:host|proxy): ([^\s()]+)/;

export function gitCommands(options: GitOptions): GitCommands {
  const { environment, controlGroup, signal } = options;
  return {
    network: (args, cwd, own) => runNetworkGit(options, args, cwd, own),
    local: (args, cwd) => runLocalGit({ args, cwd, environment, signal }),
    localInGroup: (args, cwd, onRecord, recordEnd) =>
      runInGroup({
        argv: ["git", ...args],
        cwd,
        environment: localEnvironment(environment, cwd),
        controlGroup,
        signal,
        onRecord,
        recordEnd,
      }),
  };
}

async function runNetworkGit(
  { environment, controlGroup, silenceTimeoutMs, signal, onLine }: GitOptions,
  args: readonly string[],
  cwd: string,
  { authorization, onAdvertisedRef, signal: own, ...records }: NetworkOptions,
): Promise<NetworkEnd> {
  const trace = new GitTrace(onAdvertisedRef);
  const { exchanges } = trace;
  const silence = new SilenceWatch(silenceTimeoutMs);
  try {
    const end = await runInGroup({
      argv: ["git", ...args],
      cwd,
      environment: {
        ...networkEnvironment(environment, authorization, cwd),
        ...HTTP_TRACE,
        ...(onAdvertisedRef && PACKET_TRACE),
      },
      controlGroup,
      ...records,
      signal: AbortSignal.any([signal, silence.signal, ...(own ? [own] : [])]),
      onStart: (group) => silence.begin(group),
      onLine: (line) => {
        if (!trace.read(line)) onLine(line);
      },
    });
    const stderrTail = end.stderrTail.filter((line) => !isTrace(line));
    return { ...end, stderrTail, exchanges, unknownHost: await unknownHost(stderrTail) };
  } catch (error) {
    if (error !== silence.signal.reason) throw error;
    return { exitCode: ENDED, stdoutTail: [], stderrTail: [], exchanges, silentForMs: silenceTimeoutMs };
  } finally {
    silence.end();
  }
}

/** Git reports a name that does not exist and a resolver that does not answer with the same message. */
async function unknownHost(stderr: readonly string[]): Promise<string | undefined> {
  const [host] = stderr.flatMap((line) => UNRESOLVED_HOST.exec(line)?.[1] ?? []);
  if (host === undefined) return undefined;
  const code = await lookup(host).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );
  return code === "ENOTFOUND" ? host : undefined;
}

import type { ChildEnvironment } from "../process/child-environment.ts";
import { type GroupCommand, type GroupEnd, runInGroup } from "../process/process-group.ts";
import type { RecordEnd } from "../process/record-splitter.ts";
import { type Credentials, localEnvironment, networkEnvironment } from "./environment.ts";
import { runLocalGit } from "./local.ts";

export interface GitCommands {
  /** Commands that talk to the server, each in its own process group: git's helpers (git-remote-http) end with git. */
  network(args: readonly string[], cwd: string, options?: NetworkOptions): Promise<GroupEnd>;
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
  /** Called for each branch and tag that the server advertises, before git requests any object. */
  readonly onAdvertisedRef?: (offer: AdvertisedRef) => void;
  /** Ends this command only, not the run. */
  readonly signal?: AbortSignal;
}

export interface AdvertisedRef {
  readonly id: string;
  readonly ref: string;
}

export interface GitOptions extends Credentials {
  readonly environment: ChildEnvironment;
  readonly controlGroup?: string;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

/** With GIT_TRACE_PACKET git prints the packets of its protocol to stderr, without the contents of packs. */
const TRACED = /^\d\d:\d\d:\d\d\.\d+ .*packet: +(\S+) (.*)$/;
const ADVERTISED_REF = /^([0-9a-f]{40}|[0-9a-f]{64}) (refs\/[^ \0]+)/;

function readTrace(line: string): { offer?: AdvertisedRef } | undefined {
  const [, direction, packet = ""] = TRACED.exec(line) ?? [];
  if (direction === undefined) return undefined;
  const [, id, ref] = (direction === "fetch<" && ADVERTISED_REF.exec(packet)) || [];
  return id !== undefined && ref !== undefined ? { offer: { id, ref } } : {};
}

export function gitCommands(options: GitOptions): GitCommands {
  const { environment, controlGroup, signal, onLine, ...credentials } = options;
  return {
    async network(args, cwd, { onAdvertisedRef, signal: own, ...records } = {}) {
      const end = await runInGroup({
        argv: ["git", ...args],
        cwd,
        environment: {
          ...networkEnvironment(environment, credentials, cwd),
          ...(onAdvertisedRef && { GIT_TRACE_PACKET: "2" }),
        },
        controlGroup,
        ...records,
        signal: own ? AbortSignal.any([signal, own]) : signal,
        onLine: (line) => {
          const traced = onAdvertisedRef && readTrace(line);
          if (!traced) onLine(line);
          else if (traced.offer) onAdvertisedRef(traced.offer);
        },
      });
      return onAdvertisedRef
        ? { ...end, stderrTail: end.stderrTail.filter((line) => !TRACED.test(line)) }
        : end;
    },
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

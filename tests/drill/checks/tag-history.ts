/** Every request that put a version's tag, as the registry itself has logged it. */
import type { CompletedRequest } from "../../support/servers/registry.ts";
import type { RecordedRequest } from "../../support/servers/registry-proxy.ts";
import type { Assigned, Attempt, JournalLine } from "../site/journal.ts";
import type { FaultLog } from "./fault-log.ts";

export interface TagPut {
  /** When the registry had put it. */
  readonly at: number;
  /** When the request reached the registry. */
  readonly arrivedAt: number;
  readonly digest: string | undefined;
  /** The program that put it. */
  readonly worker: string | undefined;
}

/** The proxy's clock is read before the request goes on, and the registry's at its end. */
const CLOCK_TOLERANCE_MS = 50;

/**
 * The registry logs neither the client nor the digest: those are of the request that the proxy before it has passed on.
 * @returns the puts in the registry's order, and how many of them did not come through the proxy
 */
export function tagHistory(
  completed: readonly CompletedRequest[],
  passed: readonly RecordedRequest[],
  path: string,
  workerAt: (host: string) => string | undefined,
): { readonly puts: readonly TagPut[]; readonly unknown: number } {
  const isPut = ({ method, path: requested }: { method: string; path: string }) =>
    method === "PUT" && requested === path;
  const left = passed.filter(isPut).toSorted((one, other) => one.at - other.at);
  const puts: TagPut[] = [];
  let unknown = 0;
  for (const { at, status } of completed.filter(isPut).toSorted((one, other) => one.at - other.at)) {
    const index = left.findLastIndex((request) => request.at <= at + CLOCK_TOLERANCE_MS);
    const [request] = index === -1 ? [] : left.splice(index, 1);
    if (status !== 201) continue;
    if (!request) unknown += 1;
    else puts.push({ at, arrivedAt: request.at, digest: request.digest, worker: workerAt(request.host) });
  }
  return { puts, unknown };
}

export interface TagOwner {
  readonly runs: readonly Attempt[];
  readonly assigned: readonly Assigned[];
  /** All log lines about the job. */
  readonly lines: readonly JournalLine[];
  readonly faults: FaultLog;
}

/** Descriptions of what is wrong with a job's puts. */
export function putProblems(puts: readonly TagPut[], { runs, assigned, lines, faults }: TagOwner): string[] {
  const publishedAt =
    lines.find(({ message }) => message === "result published")?.at ?? Number.POSITIVE_INFINITY;
  const problems: string[] = [];
  const digests = new Set(puts.map(({ digest }) => digest));
  if (digests.size > 1) problems.push(`moved: ${[...digests].join(", then ")}`);
  const putBy = new Map<Attempt, TagPut>();
  for (const put of puts) {
    const own = runs.findLast(
      ({ launch, startedAt }) => launch.program === put.worker && startedAt <= put.at,
    );
    if (!own) {
      problems.push(`put by ${put.worker}, which had no run of this job`);
      continue;
    }
    const name = `attempt ${own.attempt} on ${put.worker}`;
    const before = putBy.get(own);
    putBy.set(own, put);
    if (before && !faults.hasHarmed([own.launch.program], ["registry"], { from: before.at, until: put.at }))
      problems.push(`put twice by ${name}`);
    const newer = [...runs.map(({ attempt, startedAt: at }) => ({ attempt, at })), ...assigned].find(
      ({ attempt, at }) => attempt > own.attempt && at < put.arrivedAt,
    );
    if (newer) problems.push(`put by ${name} after attempt ${newer.attempt} had begun`);
    else if (isLost(lines, own.attempt, put.arrivedAt, faults))
      problems.push(`put by ${name} after that was declared lost`);
    if (publishedAt < put.arrivedAt && !faults.hasForgotten({ from: publishedAt, until: put.at }))
      problems.push(`put by ${name} after the job's result was published`);
  }
  return problems;
}

/** A loss of Redis makes it forget that the attempt was lost: it may continue if no other one has begun. */
function isLost(lines: readonly JournalLine[], attempt: number, before: number, faults: FaultLog): boolean {
  return lines.some(
    ({ message, fields, at }) =>
      message === "worker lost" &&
      fields.attempt === attempt &&
      at < before &&
      !faults.hasForgotten({ from: at, until: before }),
  );
}

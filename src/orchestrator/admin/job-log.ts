/** Follows the log of a job across its attempts. */
import { sleep } from "../../shared/abort.ts";
import { RunState } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import { RpcError } from "../../shared/rpc/status.ts";
import type { Claim, Leases } from "../leases/leases.ts";
import type { JobRecords } from "../records/job-records.ts";
import type { WorkerClient } from "../workers/worker-client.ts";

export interface LogEntry {
  readonly kind: "line" | "state" | "end";
  readonly text: string;
  /** Where a disconnected reader resumes: `<attempt>.<seq>`. */
  readonly position: string;
}

export interface LogSources {
  readonly leases: Leases;
  readonly records: JobRecords;
  /** A client with a dedicated connection: log readers can be arbitrarily slow. */
  connectDedicated(address: string): WorkerClient;
}

interface Position {
  readonly attempt: number;
  readonly seq: number;
}

const POLL_INTERVAL_MS = 200;

/** Ends after the entry of kind `end`, whose text is the job's last state, or when `signal` aborts. */
export async function* followLog(
  sources: LogSources,
  jobId: string,
  after: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<LogEntry> {
  let position = parsePosition(after);
  while (!signal.aborted) {
    const record = await sources.records.find(jobId);
    if (record?.result) {
      // No line of the run itself was read: return the log tail of the result.
      if (position.seq === 0)
        yield* record.result.logs.map((text): LogEntry => ({ kind: "line", text, position: "0.0" }));
      yield { kind: "end", text: record.state, position: formatPosition(position) };
      return;
    }
    const claim = await sources.leases.find(jobId);
    if (claim) {
      for await (const entry of followRun(sources, claim, position, signal)) {
        position = parsePosition(entry.position);
        yield entry;
      }
    }
    if (!signal.aborted) await sleep(POLL_INTERVAL_MS);
  }
}

async function* followRun(
  sources: LogSources,
  claim: Claim,
  after: Position,
  signal: AbortSignal,
): AsyncGenerator<LogEntry> {
  const client = sources.connectDedicated(claim.address);
  const afterSeq = after.attempt === claim.attempt ? after.seq : 0;
  const positionOf = (seq: number) => formatPosition({ attempt: claim.attempt, seq });
  let lastSeq = afterSeq;
  try {
    for await (const event of client.watchJob(
      claim,
      claim.incarnation,
      { afterSeq, statesOnly: false },
      signal,
    )) {
      const position = positionOf(event.seq);
      const missing = event.seq - lastSeq - 1;
      if (missing > 0)
        yield { kind: "line", text: missingLinesNotice(missing), position: positionOf(event.seq - 1) };
      lastSeq = event.seq;
      if (event.logLine !== undefined) yield { kind: "line", text: event.logLine, position };
      else if (event.state !== undefined) yield { kind: "state", text: stateName(event.state), position };
    }
  } catch (error) {
    // The run may not have begun, or its worker may be lost: the caller checks again.
    if (!(error instanceof RpcError)) throw error;
  } finally {
    client.close();
  }
}

/** The worker keeps only the last lines, so late or slow readers miss some. */
function missingLinesNotice(count: number): string {
  return `[${count} lines are missing here: the worker no longer has them]`;
}

function stateName(state: RunState): string {
  return RunState[state]?.replace("RUN_STATE_", "") ?? "UNKNOWN";
}

function parsePosition(text: string | undefined): Position {
  const match = /^(\d{1,9})\.(\d{1,15})$/.exec(text ?? "");
  return { attempt: Number(match?.[1] ?? 0), seq: Number(match?.[2] ?? 0) };
}

function formatPosition({ attempt, seq }: Position): string {
  return `${attempt}.${seq}`;
}

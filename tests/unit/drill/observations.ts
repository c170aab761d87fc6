/** Faults, runs and log lines as a drill observes them. */
import type { JobResult } from "../../../src/shared/job.ts";
import { FaultLog } from "../../drill/checks/fault-log.ts";
import { FAULT_KINDS } from "../../drill/faults/kinds.ts";
import type { FaultRecord } from "../../drill/faults/runner.ts";
import type { ReceivedResult } from "../../drill/jobs/client.ts";
import type { Assigned, Attempt, JournalLine } from "../../drill/site/journal.ts";
import type { Launch } from "../../drill/site/program.ts";

const ORCHESTRATORS = ["orchestrator-1", "orchestrator-2"];

export function launchOf(program: string): Launch {
  return {
    program,
    number: 1,
    clockOffsetMs: 0,
    startedAt: 0,
    endedAt: undefined,
    process: undefined as never,
  };
}

export function run(attempt: number, program: string, startedAt: number, endedAt: number): Attempt {
  return { jobId: "job", attempt, launch: launchOf(program), startedAt, endedAt, status: undefined };
}

export function assigned(attempt: number, worker: string, at: number): Assigned {
  return { jobId: "job", attempt, at, worker, orchestrator: "orchestrator-1" };
}

export function line(message: string, at: number, fields: Record<string, unknown> = {}): JournalLine {
  return { at, launch: launchOf("orchestrator-1"), message, jobId: "job", text: message, fields };
}

export function fault(name: string, target: string, beganAt: number, healedAt: number): FaultRecord {
  const kind = FAULT_KINDS.find((candidate) => candidate.name === name);
  if (!kind) throw new Error(`unknown fault ${name}`);
  const planned = { number: 1, kind, target: [target], lastsMs: healedAt - beganAt, pauseMs: 0 };
  return { planned, beganAt, healedAt, settledAt: healedAt, failure: undefined };
}

export const faults = (...records: readonly FaultRecord[]) => new FaultLog(records, ORCHESTRATORS);

export function resultOf(changes: Partial<JobResult>, at = 50_000): ReceivedResult {
  const result = {
    status: "SUCCESS",
    attempt: 1,
    image_digest: "sha256:one",
    deployment_version: "v-0001",
    error: null,
    ...changes,
  } as JobResult;
  return { at, sentAt: 1000, result, text: JSON.stringify(result) };
}

export const rulesOf = ({ problems }: { problems: readonly { rule: string }[] }) =>
  problems.map(({ rule }) => rule);

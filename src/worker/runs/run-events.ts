/** A run's journal as WatchJob sends it. */
import { decodeEntry, type JournalEntry } from "../../shared/log-journal.ts";
import { toWireStep } from "../../shared/rpc/build-step.ts";
import { RunState } from "../../shared/rpc/generated/blacktree/v1/run.ts";
import type { JobEvent } from "../../shared/rpc/generated/blacktree/v1/worker.ts";
import type { Journal } from "./journal.ts";

export interface WatchOptions {
  /** Only events with a sequence number above this one. */
  readonly afterSeq: number;
  /** Omit build steps and log lines. */
  readonly statesOnly: boolean;
}

/** Ends with the run, or when `signal` aborts. @throws JournalRemoved */
export async function* events(
  journal: Journal,
  { afterSeq, statesOnly }: WatchOptions,
  signal: AbortSignal,
): AsyncGenerator<JobEvent> {
  if (statesOnly) {
    for await (const entry of journal.states(afterSeq, signal)) yield eventOf(entry);
    return;
  }
  for await (const entries of journal.entries(afterSeq, signal)) {
    for (const line of entries.toString().trimEnd().split("\n")) yield eventOf(decodeEntry(line));
  }
}

function eventOf(entry: JournalEntry): JobEvent {
  const { seq, at } = entry;
  if ("line" in entry) return { seq, at, logLine: entry.line };
  if ("step" in entry) return { seq, at, buildStep: toWireStep(entry.step) };
  return { seq, at, state: stateOf(entry.state) };
}

/** States of jobs that are none of a run, such as QUEUED, are in no journal of a run. */
function stateOf(state: string): RunState {
  return RunState[`RUN_STATE_${state}` as keyof typeof RunState] ?? RunState.RUN_STATE_UNSPECIFIED;
}

/**
 * The journal of a run: its states, build steps and log lines in order, as the worker writes it and as log stores keep
 * it. One JSON object per line; a journal is complete when its last entry is a final state. Contains no secrets.
 */
import type { BuildStepView, JobState } from "./job.ts";

export type { BuildStepView as JournalStep } from "./job.ts";

interface Numbered {
  /** Grows by one with each entry, starting at 1. */
  readonly seq: number;
  /** RFC 3339 */
  readonly at: string;
}

export type JournalEntry =
  | (Numbered & { readonly state: JobState })
  | (Numbered & { readonly step: BuildStepView })
  /** A redacted line of the log, without its newline. */
  | (Numbered & { readonly line: string });

/** With its newline. */
export function encodeEntry(entry: JournalEntry): string {
  return `${JSON.stringify(entry)}\n`;
}

/** @throws Error if it is not an entry. */
export function decodeEntry(text: string): JournalEntry {
  const entry = JSON.parse(text) as JournalEntry;
  if (typeof entry === "object" && entry !== null && Number.isSafeInteger(entry.seq)) return entry;
  throw new Error("not an entry of a journal");
}

const FINAL_STATES: ReadonlySet<JobState> = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);

export function isFinalEntry(entry: JournalEntry): boolean {
  return "state" in entry && FINAL_STATES.has(entry.state);
}

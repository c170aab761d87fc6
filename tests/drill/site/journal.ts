/** The log lines of all programs, in the order of their true times. */
import type { Launch, Program } from "./program.ts";

export interface JournalLine {
  readonly at: number;
  readonly launch: Launch;
  readonly message: string;
  readonly jobId: string | undefined;
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export type Journal = readonly JournalLine[];

export function readJournal(programs: readonly Program[]): Journal {
  const lines = programs.flatMap(({ launches }) => launches.flatMap(linesOf));
  return lines.sort((one, other) => one.at - other.at);
}

function linesOf(launch: Launch): JournalLine[] {
  return launch.process.lines.flatMap((text) => {
    const fields = parse(text);
    if (!fields) return [];
    const { time, msg, job_id } = fields;
    const jobId = typeof job_id === "string" ? job_id : undefined;
    return [
      {
        at: Date.parse(String(time)) - launch.clockOffsetMs,
        launch,
        message: String(msg),
        jobId,
        text,
        fields,
      },
    ];
  });
}

/** The last line of a killed program may be incomplete. */
function parse(text: string): Record<string, unknown> | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** One run on one worker process, from the worker's log. */
export interface Attempt {
  readonly jobId: string;
  readonly attempt: number;
  readonly launch: Launch;
  readonly startedAt: number;
  /** The end of the run or of its process; infinite while it runs. */
  readonly endedAt: number;
  readonly status: string | undefined;
}

/** In the order of their starts. */
export function attemptsIn(journal: Journal): Attempt[] {
  const ends = new Map(
    journal.filter(({ message }) => message === "run ended").map((line) => [runKey(line), line]),
  );
  return journal
    .filter(({ message }) => message === "run started")
    .map((start) => {
      const end = ends.get(runKey(start));
      return {
        jobId: start.jobId ?? "",
        attempt: Number(start.fields.attempt),
        launch: start.launch,
        startedAt: start.at,
        endedAt: end?.at ?? start.launch.endedAt ?? Number.POSITIVE_INFINITY,
        status: end && String(end.fields.status),
      };
    });
}

function runKey({ launch, jobId, fields }: JournalLine): string {
  return `${launch.program}#${launch.number} ${jobId} ${fields.attempt}`;
}

/** A claim of an orchestrator, or its takeover of another one's, from its log. */
export interface Assigned {
  readonly jobId: string;
  readonly attempt: number;
  readonly at: number;
  /** The program; undefined when the worker's log does not name it. */
  readonly worker: string | undefined;
  readonly orchestrator: string;
}

export function assignedIn(journal: Journal): Assigned[] {
  const programs = workerPrograms(journal);
  return journal
    .filter(({ message }) => message === "job assigned" || message === "attaching to a running job")
    .map(({ jobId, fields, at, launch }) => ({
      jobId: jobId ?? "",
      attempt: Number(fields.attempt),
      at,
      worker: programs.get(String(fields.worker_id)),
      orchestrator: launch.program,
    }));
}

/** By the ids of workers, which may change with each start. */
export function workerPrograms(journal: Journal): ReadonlyMap<string, string> {
  const listening = journal.filter(({ message }) => message === "worker listens");
  return new Map(listening.map(({ fields, launch }) => [String(fields.worker_id), launch.program]));
}

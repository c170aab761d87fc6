/** The log of a schedule: what the simulated programs log, and which calls and faults happened when. */
import pino from "pino";
import { LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import { RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import type { Logger } from "../../../../src/shared/logging.ts";
import type { Simulation } from "./simulation.ts";

export const silentLogger = pino({ level: "silent" });

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** Beginnings of errors in the log that a fault of the schedule explains. Any other one is a bug in Blacktree. */
const EXPECTED_MESSAGES = [
  "another live worker has this id or address, retrying until its lease expires",
  "registration refused, retrying",
  "this orchestrator reaches none of the live workers",
] as const;

interface LogFields {
  readonly err?: unknown;
}

export class Journal {
  readonly lines: string[] = [];

  constructor(
    private readonly simulation: Simulation,
    private readonly onError: (problem: string) => void,
    private readonly isWritten: boolean,
  ) {}

  note(text: string): void {
    if (!this.isWritten) return;
    const at = (this.simulation.nowMs / 1000).toFixed(3).padStart(8);
    this.lines.push(`${at} ${(this.simulation.current?.name ?? "").padEnd(4)} ${text}`);
  }

  logger(): Logger {
    const write = (level: string) => (given: LogFields | string, text?: string) => {
      const [fields, message = ""] = typeof given === "string" ? [{}, given] : [given, text];
      if (level === "error" && !isExpected(fields, message))
        this.onError(`${this.simulation.current?.name} logged: ${message} ${describe(fields)}`);
      if (this.isWritten) this.note(`${level} ${message} ${describe(fields)}`);
    };
    return Object.fromEntries(LEVELS.map((level) => [level, write(level)])) as unknown as Logger;
  }
}

function isExpected({ err }: LogFields, message: string): boolean {
  const isFault = [LeasesUnavailable, RecordsUnavailable, DeliveryRevoked].some(
    (kind) => err instanceof kind,
  );
  return isFault || EXPECTED_MESSAGES.some((each) => message.startsWith(each));
}

/** The reason of a delivery that the broker of a schedule has taken back. */
export class DeliveryRevoked extends Error {
  override readonly name = "DeliveryRevoked";
}

function describe(fields: object): string {
  return JSON.stringify(fields, (_, value: unknown) => (value instanceof Error ? value.message : value));
}

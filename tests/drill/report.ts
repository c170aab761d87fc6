/** The results of a drill, as text and as JSON. */
import type { Breach } from "./checks/breach.ts";
import type { GrownProgram } from "./checks/footprint.ts";
import type { JobVerdict } from "./checks/job-checks.ts";
import type { PlannedFault } from "./faults/fault.ts";
import { FAULT_KINDS } from "./faults/kinds.ts";
import type { FaultRecord } from "./faults/runner.ts";
import { percentile, type Recovery } from "./recovery.ts";
import type { BusyPeriod } from "./site/machine-watch.ts";

export interface DrillOutcome {
  readonly seed: string;
  readonly jobs: number;
  /** A job may be of several kinds. */
  readonly jobsByKind: ReadonlyMap<string, number>;
  readonly seconds: number;
  readonly records: readonly FaultRecord[];
  readonly missed: readonly PlannedFault[];
  readonly busy: readonly BusyPeriod[];
  readonly recoveries: readonly Recovery[];
  readonly verdict: JobVerdict;
  readonly grown: readonly GrownProgram[];
  readonly breaches: readonly Breach[];
}

const NAME_COLUMNS = 64;

interface KindRow {
  readonly kind: string;
  readonly faults: number;
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
  readonly mostMs: number | undefined;
}

function rowOf(kind: string, records: readonly FaultRecord[], recoveries: readonly Recovery[]): KindRow {
  const isOfKind = ({ planned }: FaultRecord) => kind === "all" || planned.kind.name === kind;
  const times = recoveries.filter(({ record }) => isOfKind(record)).map(({ tookMs }) => tookMs);
  return {
    kind,
    faults: records.filter(isOfKind).length,
    p50Ms: percentile(times, 0.5),
    p99Ms: percentile(times, 0.99),
    mostMs: percentile(times, 1),
  };
}

function rows({ records, recoveries }: DrillOutcome): KindRow[] {
  const caused = new Set(records.map(({ planned }) => planned.kind.name));
  const names = [...FAULT_KINDS.map(({ name }) => name).filter((name) => caused.has(name)), "all"];
  return names.map((name) => rowOf(name, records, recoveries));
}

export function describe(outcome: DrillOutcome): string[] {
  const { verdict, grown, breaches, jobs, jobsByKind, records, missed, busy, seconds } = outcome;
  const passed = breaches.length === 0 ? "passed" : "FAILED";
  return [
    "",
    `${"fault".padEnd(NAME_COLUMNS)}${["count", "p50", "p99", "most"].map((title) => title.padStart(10)).join("")}`,
    ...rows(outcome).map(describeRow),
    "from the loss, or from the end of a freeze or cut, until the part works and all its jobs continue",
    "",
    `jobs         ${[...jobsByKind].map(([kind, count]) => `${count} ${kind}`).join(", ")}`,
    `results      ${verdict.succeeded} succeeded, ${verdict.failed} failed as expected, ${verdict.cancelled} cancelled, ${verdict.failedByFaults} failed because of faults in all attempts`,
    `             ${verdict.repeated} published again, identical; ${verdict.foundAgain} run again after a loss of Redis; ${verdict.deadLetters} dead letters`,
    `attempts     ${verdict.retried} jobs had more than one; ${verdict.explained} attempts ended early, each explained by a fault, and ${verdict.endedByMachine} because the machine was overloaded`,
    `             ${verdict.overlaps} overlaps, each while its worker was unreachable, or listed below`,
    `not reached  ${missed.length} faults whose moment did not come`,
    `machine      ${Math.round((100 * lengthOf(busy)) / (1000 * seconds))} % of the time overloaded: then the drill sees less`,
    ...grown.map(
      ({ name, before, after }) =>
        `${name.padEnd(15)} ${before.rssMb} MB, ${before.files} files after the warm-up; ${after.rssMb} MB, ${after.files} files at the end`,
    ),
    `in ${Math.round(seconds)} s, seed ${outcome.seed}`,
    ...breaches.flatMap(describeBreach),
    "",
    `drill: ${jobs} jobs, ${records.length} faults, ${verdict.lost} lost, ${verdict.doubled} doubled: ${passed}`,
  ];
}

function lengthOf(periods: readonly BusyPeriod[]): number {
  return periods.reduce((sum, { from, until }) => sum + until - from, 0);
}

function describeRow({ kind, faults, p50Ms, p99Ms, mostMs }: KindRow): string {
  const seconds = (ms: number | undefined) => (ms === undefined ? "-" : `${(ms / 1000).toFixed(2)} s`);
  const cells = [String(faults), seconds(p50Ms), seconds(p99Ms), seconds(mostMs)];
  return `${kind.padEnd(NAME_COLUMNS)}${cells.map((cell) => cell.padStart(10)).join("")}`;
}

function describeBreach({ rule, what, evidence }: Breach): string[] {
  return ["", `BREACH: ${rule}: ${what}`, ...evidence.map((line) => `    ${line.slice(0, 400)}`)];
}

export function asJson(outcome: DrillOutcome): string {
  const { records, recoveries, missed, jobsByKind, ...rest } = outcome;
  const faults = records.map((record) => ({
    number: record.planned.number,
    kind: record.planned.kind.name,
    target: record.planned.target,
    began_at: new Date(record.beganAt).toISOString(),
    lasted_ms: record.healedAt - record.beganAt,
    settled_ms: record.settledAt - record.healedAt,
    recovery_ms: recoveries.find((recovery) => recovery.record === record)?.tookMs ?? null,
    failure: record.failure ?? null,
  }));
  return JSON.stringify(
    {
      ...rest,
      jobs_by_kind: Object.fromEntries(jobsByKind),
      by_kind: rows(outcome),
      faults,
      missed: missed.map(({ kind, number, target }) => ({ number, kind: kind.name, target })),
    },
    null,
    2,
  );
}

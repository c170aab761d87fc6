/** The results of a drill, as text and as JSON. */
import type { Breach } from "./breach.ts";
import type { FaultRecord } from "./fault-runner.ts";
import { FAULT_KINDS } from "./faults.ts";
import type { GrownProgram } from "./footprint.ts";
import type { JobVerdict } from "./job-checks.ts";
import { percentile, type Recovery } from "./recovery.ts";

export interface DrillOutcome {
  readonly seed: string;
  readonly jobs: number;
  readonly seconds: number;
  readonly records: readonly FaultRecord[];
  readonly recoveries: readonly Recovery[];
  readonly verdict: JobVerdict;
  readonly grown: readonly GrownProgram[];
  readonly breaches: readonly Breach[];
}

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
  const names = [...FAULT_KINDS.map(({ name }) => name), "all"];
  return names.map((name) => rowOf(name, records, recoveries));
}

export function describe(outcome: DrillOutcome): string[] {
  const { verdict, grown, breaches, jobs, records, seconds } = outcome;
  const passed = breaches.length === 0 ? "passed" : "FAILED";
  return [
    "",
    `${"fault".padEnd(42)}${["count", "p50", "p99", "most"].map((title) => title.padStart(10)).join("")}`,
    ...rows(outcome).map(describeRow),
    "from the loss, or from the end of a freeze or cut, until the part works and all its jobs continue",
    "",
    `results      ${verdict.succeeded} succeeded, ${verdict.failed} failed as expected, ${verdict.failedByFaults} failed because of faults in all attempts`,
    `             ${verdict.repeated} published twice, identical; ${verdict.foundAgain} run again after a loss of Redis, with the image already made`,
    `attempts     ${verdict.retried} jobs had more than one; ${verdict.overlaps} overlaps, each while its worker was unreachable, or listed below`,
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

function describeRow({ kind, faults, p50Ms, p99Ms, mostMs }: KindRow): string {
  const seconds = (ms: number | undefined) => (ms === undefined ? "-" : `${(ms / 1000).toFixed(2)} s`);
  const cells = [String(faults), seconds(p50Ms), seconds(p99Ms), seconds(mostMs)];
  return `${kind.padEnd(42)}${cells.map((cell) => cell.padStart(10)).join("")}`;
}

function describeBreach({ rule, what, evidence }: Breach): string[] {
  return ["", `BREACH: ${rule}: ${what}`, ...evidence.map((line) => `    ${line.slice(0, 400)}`)];
}

export function asJson(outcome: DrillOutcome): string {
  const { records, recoveries, ...rest } = outcome;
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
  return JSON.stringify({ ...rest, by_kind: rows(outcome), faults }, null, 2);
}

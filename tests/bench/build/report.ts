/** The results of a bench of builds, as text and as JSON. */
import { type Spread, spreadOf } from "../statistics.ts";
import { type BuildCase, CASES, type CaseName } from "./cases.ts";
import type { Measurement, Sample } from "./measurement.ts";
import { describeSize, type Size } from "./repositories.ts";

export interface BuildOutcome {
  readonly sizes: readonly Size[];
  readonly cases: readonly CaseName[];
  readonly hasRegistryCache: boolean;
  readonly samples: readonly Sample[];
  /** Versions and settings of the measurement; copied into the JSON. */
  readonly circumstances: Readonly<Record<string, string | number | boolean>>;
}

export interface SideResult {
  readonly totalMs: Spread;
  readonly stepsMs: Readonly<Record<string, Spread>>;
  /** In the order of the rounds. */
  readonly totalsMs: readonly number[];
}

export interface CaseResult {
  readonly size: Size;
  readonly case: BuildCase;
  readonly script: SideResult | undefined;
  readonly blacktree: SideResult | undefined;
  /** Blacktree's median divided by the script's. */
  readonly ratio: number | undefined;
}

export function resultsOf({ sizes, cases, samples }: BuildOutcome): CaseResult[] {
  const asked: readonly BuildCase[] = CASES.filter(({ name }) => cases.includes(name));
  return sizes.flatMap((size) => asked.map((one) => resultOf(size, one, samples)));
}

function resultOf(size: Size, of: BuildCase, samples: readonly Sample[]): CaseResult {
  const measured = (side: Sample["side"], name: string) =>
    samples
      .filter((sample) => sample.size === size && sample.side === side && sample.case === name)
      .map((sample) => sample.measured);
  const script = sideOf(measured("script", of.against));
  const blacktree = sideOf(measured("blacktree", of.name));
  const ratio = script && blacktree && blacktree.totalMs.median / script.totalMs.median;
  return { size, case: of, script, blacktree, ratio };
}

function sideOf(measurements: readonly Measurement[]): SideResult | undefined {
  const totalsMs = measurements.map(({ totalMs }) => totalMs);
  const totalMs = spreadOf(totalsMs);
  if (!totalMs) return undefined;
  const names = [...new Set(measurements.flatMap(({ stepsMs }) => Object.keys(stepsMs)))];
  const steps = names.flatMap((name) => {
    const spread = spreadOf(measurements.flatMap(({ stepsMs }) => stepsMs[name] ?? []));
    return spread ? [[name, spread] as const] : [];
  });
  return { totalMs, stepsMs: Object.fromEntries(steps), totalsMs };
}

export function describe(outcome: BuildOutcome): string[] {
  const results = resultsOf(outcome);
  return [
    "",
    ...Object.entries(outcome.circumstances).map(([name, value]) => `${name.padEnd(14)} ${value}`),
    "",
    "Times in ms: median (least to most). Blacktree's time is from the publish of the message until its result arrives;",
    "the ratio is Blacktree's median divided by the script's. The script requests its token from ECR's API, without the",
    "start of `aws`. Blacktree's steps clone and auth run at the same time; `between` is the worker's time outside the steps,",
    "and `around` the time before and after: transport through RabbitMQ, and the clean-up.",
    ...outcome.sizes.flatMap((size) => [
      "",
      `${size} repository: ${describeSize(size)}`,
      row("case", "script", "Blacktree", "ratio", "target"),
      ...results.filter((result) => result.size === size).map((result) => describeCase(result, outcome)),
      "",
      ...results.filter((result) => result.size === size).flatMap(describeSteps),
    ]),
    "",
    ...CASES.filter(({ name }) => outcome.cases.includes(name)).map(describeMeaning),
  ];
}

function describeCase(result: CaseResult, { hasRegistryCache }: BuildOutcome): string {
  const { case: of, script, blacktree, ratio } = result;
  const isAvailable = hasRegistryCache || !of.isOnSecondWorker;
  return row(
    of.name,
    describeSpread(script?.totalMs),
    isAvailable ? describeSpread(blacktree?.totalMs) : "not available",
    ratio?.toFixed(2) ?? "-",
    describeTarget(result),
  );
}

function describeTarget(result: CaseResult): string {
  const { targetRatio } = result.case;
  if (targetRatio === undefined) return "none";
  const target = `at most ${targetRatio.toFixed(2)}`;
  const met = isMet(result);
  return met === undefined ? target : `${target}: ${met ? "met" : "NOT met"}`;
}

/** Undefined without a target or a measurement. */
function isMet({ case: { targetRatio }, ratio }: CaseResult): boolean | undefined {
  return targetRatio === undefined || ratio === undefined ? undefined : ratio <= targetRatio;
}

function row(name: string, script: string, blacktree: string, ratio: string, target: string): string {
  return `${name.padEnd(23)}${script.padStart(24)}${blacktree.padStart(24)}${ratio.padStart(8)}   ${target}`;
}

function describeSpread(spread: Spread | undefined): string {
  if (!spread) return "-";
  const [median, least, most] = [spread.median, spread.least, spread.most].map(Math.round);
  return `${median} (${least} to ${most})`;
}

function describeSteps({ case: of, script, blacktree }: CaseResult): string[] {
  const line = (side: string, result: SideResult | undefined) => {
    const steps = Object.entries(result?.stepsMs ?? {});
    const cells = steps.map(([name, spread]) => `${name} ${describeSpread(spread)}`);
    return steps.length > 0 ? [`  ${side.padEnd(10)} ${cells.join(", ")}`] : [];
  };
  const lines = [...(of.name === of.against ? line("script", script) : []), ...line("Blacktree", blacktree)];
  return lines.length > 0 ? [of.name, ...lines] : [];
}

function describeMeaning({ name, meaning, against }: BuildCase): string {
  return `${name.padEnd(23)}${meaning}${against === name ? "" : `; beside the script's "${against}"`}`;
}

export function asJson(outcome: BuildOutcome): string {
  const results = resultsOf(outcome).map((result) => ({
    size: result.size,
    case: result.case.name,
    meaning: result.case.meaning,
    script_case: result.case.against,
    target_ratio: result.case.targetRatio ?? null,
    ratio: result.ratio ?? null,
    is_met: isMet(result) ?? null,
    script: sideAsJson(result.script),
    blacktree: sideAsJson(result.blacktree),
  }));
  return JSON.stringify({ ...outcome.circumstances, results }, null, 2);
}

function sideAsJson(side: SideResult | undefined) {
  return side ? { total_ms: side.totalMs, steps_ms: side.stepsMs, totals_ms: side.totalsMs } : null;
}

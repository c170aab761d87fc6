/**
 * `bun run check`: everything that the project holds itself to, step by step, on this machine. A failing step does not
 * keep the others from running. The last line is always the count of what passed and failed.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { fullCheckVariable } from "../support/machine/full-check.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { programLogsOf, programLogsRoot } from "../support/machine/program-logs.ts";
import { missingDockerEngine } from "../support/servers/docker-engines.ts";
import { idleShare, processorTimes } from "./processors.ts";
import { type Count, type FailedTest, readTestReport, type TestReport } from "./test-report.ts";

const ROOT = join(import.meta.dir, "../..");
const GENERATED = "src/shared/rpc/generated";
/** Of the files, in ms; `--full` writes it. Bun starts the longest first. */
const DURATIONS = "tests/check/durations.json";
/** Most tests wait for servers, so that more files than processors are run at once. */
const FILES_AT_ONCE = 4;
const TIERS = ["unit", "integration", "e2e"] as const;
const DRILL = { default: ["--jobs", "16", "--faults", "6"], full: ["--jobs", "100", "--faults", "30"] };
const POOL_HOST = "tests/support/servers/pool-host.ts";
const SLOWEST_SHOWN = 10;
const MOST_MESSAGE_LINES = 12;

const USAGE = `bun run check [--full] [--at-once ${FILES_AT_ONCE}]

  --full        also what the default check leaves out: every builder through its whole contract, a consumer timeout of a minute,
                a BuildKit compiled from its sources (with Go), and a drill of ${DRILL.full[1]} jobs and ${DRILL.full[3]} faults
  --at-once N   how many test files run at the same time

Parts of it, with the same servers and settings:

  bun test                                              all tests, one file after the other
  bun test tests/unit                                   one tier: tests/unit, tests/integration, tests/e2e
  bun test tests/e2e/faults/cancel.test.ts              one file
  bun test tests/e2e/faults/cancel.test.ts -t "frozen"  one fault test, by a part of its name
  ${fullCheckVariable}=1 bun test tests/integration       with what only the full check runs
  bun run drill --jobs 20 --faults 6 --seed mine        a drill
  bun run lint; bun run types; bun run build            without tests

What the programs of a test file print is kept in ${relative(ROOT, programLogsRoot)}/, by the name of the file.`;

interface Options {
  readonly isFull: boolean;
  readonly filesAtOnce: number;
}

interface Step {
  readonly name: string;
  run(): Promise<Count>;
}

const NOTHING: Count = { passed: 0, failed: 0, skipped: 0 };
const PASSED: Count = { ...NOTHING, passed: 1 };
const FAILED: Count = { ...NOTHING, failed: 1 };

function sum(one: Count, other: Count): Count {
  return {
    passed: one.passed + other.passed,
    failed: one.failed + other.failed,
    skipped: one.skipped + other.skipped,
  };
}

/** Bun itself, with its own folder for what scripts call by name, and `node` where the machine has none. */
async function bun(args: readonly string[], env: Record<string, string> = {}): Promise<number> {
  const child = Bun.spawn([process.execPath, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  const end = () => child.kill();
  process.once("exit", end);
  try {
    return await child.exited;
  } finally {
    process.off("exit", end);
  }
}

const script = (name: string) => async () => ((await bun(["run", name])) === 0 ? PASSED : FAILED);

/** By path. */
async function contents(folder: string): Promise<Map<string, string>> {
  const paths = await Array.fromAsync(new Bun.Glob("**").scan({ cwd: join(ROOT, folder) }));
  const entries = paths.map(async (path) => {
    const bytes = await Bun.file(join(ROOT, folder, path)).bytes();
    return [path, Bun.hash(bytes).toString()] as const;
  });
  return new Map(await Promise.all(entries));
}

/** Compares with the files themselves and not with a commit, so that it also holds before one, and without git. */
async function generatedCode(): Promise<Count> {
  const before = await contents(GENERATED);
  if ((await bun(["run", "generate"])) !== 0) return FAILED;
  const after = await contents(GENERATED);
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  const changed = paths.filter((path) => before.get(path) !== after.get(path));
  if (changed.length === 0) return PASSED;
  console.log(`Not what proto/ gives; the files are now up to date, to be looked at and committed:`);
  for (const path of changed) console.log(`  ${GENERATED}/${path}`);
  return FAILED;
}

/** All files of all tiers, as one pool. */
async function runTests({ isFull, filesAtOnce }: Options, reports: string): Promise<TestReport> {
  rmSync(programLogsRoot, { recursive: true, force: true });
  const path = join(reports, "tests.xml");
  const status = await bun(
    [
      "test",
      `--parallel=${filesAtOnce}`,
      "--parallel-delay=0",
      `--timings=${DURATIONS}`,
      ...(isFull ? ["--update-timings"] : []),
      "--reporter=junit",
      `--reporter-outfile=${path}`,
    ],
    isFull ? { [fullCheckVariable]: "1", BLACKTREE_TEST_BUILDKIT: "1" } : {},
  );
  const xml = await Bun.file(path)
    .text()
    .catch(() => "");
  const files = await Array.fromAsync(new Bun.Glob("tests/**/*.test.ts").scan({ cwd: ROOT }));
  const report = readTestReport(xml, files.sort());
  if (status === 0 || report.count.failed > 0) return report;
  // Whatever the report says, a run that ended badly has not passed.
  const failure = { file: "tests", name: undefined, message: `bun test ended with status ${status}` };
  return { ...report, count: sum(report.count, FAILED), failures: [failure] };
}

function tierOf(file: string): string {
  return TIERS.find((tier) => file.startsWith(`tests/${tier}/`)) ?? file;
}

function describeDurations({ durationsMs }: TestReport): string[] {
  const all = [...durationsMs];
  const seconds = (files: typeof all) =>
    (files.reduce((total, [, ms]) => total + ms, 0) / 1000).toFixed(0).padStart(5);
  const tiers = TIERS.map((tier) => {
    const files = all.filter(([file]) => tierOf(file) === tier);
    return `${seconds(files)} s  in the ${files.length} files of tests/${tier}, one after the other`;
  });
  const slowest = all.sort(([, one], [, other]) => other - one).slice(0, SLOWEST_SHOWN);
  return [...tiers, ...slowest.map((each) => `${seconds([each])} s  ${each[0]}`)];
}

function lastLine(path: string): string {
  return readFileSync(path, "utf8").trimEnd().split("\n").at(-1)?.slice(0, 200) ?? "";
}

/** Why it failed, where the logs of its programs are, and how to run it again. */
function describeFailure({ file, name, message }: FailedTest): string[] {
  const logs = programLogsOf(file);
  const kept = Array.from(new Bun.Glob("*.log").scanSync({ cwd: logs, onlyFiles: true })).sort();
  const pattern = name?.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll('"', '\\"');
  return [
    "",
    `FAILED  ${file}${name === undefined ? "" : ` > ${name}`}`,
    ...message
      .split("\n")
      .slice(0, MOST_MESSAGE_LINES)
      .map((line) => `    ${line}`),
    ...(kept.length > 0 ? [`  logs of its programs, in ${relative(ROOT, logs)}/, and how they end:`] : []),
    ...kept.map((log) => `    ${log}: ${lastLine(join(logs, log))}`),
    `  again: bun test ${file}${pattern === undefined ? "" : ` -t "${pattern}"`}`,
  ];
}

/** The logs of what passed say nothing any more; the servers that all files share are a part of what failed. */
function keepLogsOf(failures: readonly FailedTest[]): void {
  const files = failures.map(({ file }) => file);
  if (files.length > 0) files.push(POOL_HOST);
  const kept = new Set(files.map(programLogsOf));
  for (const name of existsSync(programLogsRoot) ? readdirSync(programLogsRoot) : []) {
    const folder = join(programLogsRoot, name);
    if (!kept.has(folder)) rmSync(folder, { recursive: true, force: true });
  }
}

function describe({ passed, failed, skipped }: Count): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}

/** With the seed that it has by default. */
async function drill({ isFull }: Options): Promise<Count> {
  const missing = await missingDockerEngine("26.1");
  const size = isFull ? DRILL.full : DRILL.default;
  if (missing === undefined) return (await bun(["tests/drill/drill.ts", ...size])) === 0 ? PASSED : FAILED;
  console.log(missing);
  return { ...NOTHING, skipped: 1 };
}

async function prerequisites(): Promise<Count> {
  await removeAbandoned();
  const { installed, engines } = await ensurePrerequisites("check", (line) => console.log(line));
  console.log(installed.length > 0 ? `installed ${installed.join(", ")}` : "nothing was missing");
  for (const [engine, state] of Object.entries(engines)) {
    console.log(
      `Docker ${engine}: ${state === "available" ? state : `tests of it are skipped: ${state.reason}`}`,
    );
  }
  return NOTHING;
}

async function runStep(step: Step): Promise<Count> {
  try {
    return await step.run();
  } catch (error) {
    console.log(error instanceof Error ? error.message : String(error));
    return FAILED;
  }
}

interface CheckOutcome {
  readonly total: Count;
  readonly report: TestReport | undefined;
}

async function check(options: Options, reports: string): Promise<CheckOutcome> {
  let report: TestReport | undefined;
  const tests = async () => {
    report = await runTests(options, reports);
    return report.count;
  };
  const steps: Step[] = [
    { name: "prerequisites", run: prerequisites },
    { name: "lint", run: script("lint") },
    { name: "types", run: script("types") },
    { name: "generated code", run: generatedCode },
    { name: "compile", run: script("build") },
    { name: "tests", run: tests },
    { name: "drill", run: () => drill(options) },
  ];
  const summary: string[] = [];
  let total = NOTHING;
  for (const [index, step] of steps.entries()) {
    console.log(`\n=== ${index + 1}/${steps.length} ${step.name}`);
    const startMs = performance.now();
    const startTimes = processorTimes();
    const count = await runStep(step);
    const idle = `${(idleShare(startTimes, processorTimes()) * 100).toFixed(0)} % idle`;
    const line = `${step.name.padEnd(14)} ${seconds(startMs).padStart(8)}  ${idle.padStart(9)}  ${describe(count)}`;
    console.log(`--- ${line}`);
    summary.push(line);
    total = sum(total, count);
    // Without them every other step would fail, and say less about why.
    if (step.run === prerequisites && count.failed > 0) break;
  }
  console.log(`\n${summary.join("\n")}`);
  return { total, report };
}

/** What the default check has left out. */
function describeFullCheck({ leftToFullCheck }: TestReport): string {
  const [, jobs, , faults] = DRILL.full;
  return (
    `not run here, but by bun run check --full: ${leftToFullCheck} more tests (those that are named as such above), ` +
    `a BuildKit compiled from its sources, and a drill of ${jobs} jobs and ${faults} faults`
  );
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      full: { type: "boolean", default: false },
      "at-once": { type: "string", default: String(FILES_AT_ONCE) },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const filesAtOnce = Number(values["at-once"]);
  if (Number.isInteger(filesAtOnce) && filesAtOnce > 0) return { isFull: values.full, filesAtOnce };
  throw new Error(`--at-once ${values["at-once"]} is not a number of files, expected e.g. ${FILES_AT_ONCE}`);
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = readOptions();
  } catch (error) {
    console.error(`check: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));
  const startMs = performance.now();
  const reports = mkdtempSync(join(tmpdir(), "blacktree-check-"));
  process.once("exit", () => rmSync(reports, { recursive: true, force: true }));
  const { total, report } = await check(options, reports);
  console.log(`in ${seconds(startMs)}`);
  if (report !== undefined) {
    keepLogsOf(report.failures);
    for (const line of describeDurations(report)) console.log(line);
    const others = total.skipped - report.leftToFullCheck;
    if (others > 0) console.log(`${others} skipped, each with its reason above`);
    if (!options.isFull) console.log(describeFullCheck(report));
    for (const line of report.failures.flatMap(describeFailure)) console.log(line);
  }
  // Scripts read this line, which is the last.
  console.log(`\n${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 ? 1 : 0;
}

process.exit(await main());

/**
 * `bun run check`: runs all checks and tests of the project on this machine, step by step. A failing step does not stop
 * the steps after it. The last line is always the number of passed and failed checks and tests.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { removeAbandoned } from "../support/machine/abandoned.ts";
import { fullCheckVariable } from "../support/machine/full-check.ts";
import { ensurePrerequisites } from "../support/machine/prerequisites.ts";
import { programLogsOf, programLogsRoot } from "../support/machine/program-logs.ts";
import { missingDebian13 } from "../support/servers/debian-13.ts";
import { missingDockerEngine } from "../support/servers/docker-engines.ts";
import { rabbitMqVariable } from "../support/servers/rabbitmq.ts";
import { idleShare, processorTimes } from "./processors.ts";
import { type Count, type FailedTest, readTestReport, type TestReport } from "./test-report.ts";

const ROOT = join(import.meta.dir, "../..");
const GENERATED = "src/shared/rpc/generated";
/** Duration of each test file in ms, written by `--full`. Bun starts the longest file first. */
const DURATIONS = "tests/check/durations.json";
/** More than there are processors, since most tests wait for servers. */
const FILES_AT_ONCE = 5;
const TIERS = ["unit", "integration", "e2e"] as const;
const DRILL = { default: ["--jobs", "21", "--faults", "6"], full: ["--jobs", "130", "--faults", "55"] };
const POOL_HOST = "tests/support/servers/pool-host.ts";
const QUEUE_TESTS = "tests/integration/orchestrator/queue/rabbitmq";
const BROKER_TESTS = [
  "faults/consumer-timeout",
  "faults/take-over",
  "faults/broker",
  "faults/retries",
  "bad-input",
].map((name) => `tests/e2e/${name}.test.ts`);
const SLOWEST_SHOWN = 10;
const MAX_MESSAGE_LINES = 12;

const USAGE = `bun run check [--full] [--at-once ${FILES_AT_ONCE}]

  --full        also runs what the default check skips: all tests of every builder, a consumer timeout of one minute,
                a BuildKit and a server of S3 compiled from their sources (with Go), the broker's tests with RabbitMQ
                4.0, mutations of the fence, the acks and the leases, and a drill of ${DRILL.full[1]} jobs and
                ${DRILL.full[3]} faults
  --at-once N   number of test files that run at the same time

To run a part of it, with the same servers and settings:

  bun test                                              all tests, one file after the other
  bun test tests/unit                                   one tier: tests/unit, tests/integration, tests/e2e
  bun test tests/e2e/faults/cancel.test.ts              one file
  bun test tests/e2e/faults/cancel.test.ts -t "frozen"  one fault test, by a part of its name
  ${fullCheckVariable}=1 bun test tests/integration       with the tests of the full check
  ${rabbitMqVariable}=4.0 bun test tests/integration/orchestrator/queue
                                                        with another broker
  bun run drill --jobs 20 --faults 6 --seed mine        a drill
  bun run mutants --only "a cancelled job"              mutations, by a part of their name
  bun run lint; bun run types; bun run build            checks without tests
  bun tests/check/plain-language.ts --list              phrases that do not count as plain English

The output of the programs that a test file starts is in ${relative(ROOT, programLogsRoot)}/<name of the test file>/.`;

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

interface BunOptions {
  /** Words before the command's. */
  readonly launcher?: readonly string[];
  readonly output?: "inherit" | Bun.BunFile;
}

/** Runs Bun. Its scripts find `bun`, and `node` where the machine has none, in the folder that Bun adds to PATH. */
async function bun(
  args: readonly string[],
  env: Record<string, string> = {},
  { launcher = [], output = "inherit" }: BunOptions = {},
): Promise<number> {
  const child = Bun.spawn([...launcher, process.execPath, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: output,
    stderr: output,
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

async function mutants(): Promise<Count> {
  return (await bun(["tests/check/mutants/mutants.ts"])) === 0 ? PASSED : FAILED;
}

async function plainLanguage(): Promise<Count> {
  return (await bun(["tests/check/plain-language.ts"])) === 0 ? PASSED : FAILED;
}

/** @returns hashes of the files by their paths. */
async function contents(folder: string): Promise<Map<string, string>> {
  const paths = await Array.fromAsync(new Bun.Glob("**").scan({ cwd: join(ROOT, folder) }));
  const entries = paths.map(async (path) => {
    const bytes = await Bun.file(join(ROOT, folder, path)).bytes();
    return [path, Bun.hash(bytes).toString()] as const;
  });
  return new Map(await Promise.all(entries));
}

/** Compares files before and after generating, not with a commit: it works before a commit and without git. */
async function generatedCode(): Promise<Count> {
  const before = await contents(GENERATED);
  if ((await bun(["run", "generate"])) !== 0) return FAILED;
  const after = await contents(GENERATED);
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  const changed = paths.filter((path) => before.get(path) !== after.get(path));
  if (changed.length === 0) return PASSED;
  console.log("Generated code did not match proto/. These files are up to date now; review and commit them:");
  for (const path of changed) console.log(`  ${GENERATED}/${path}`);
  return FAILED;
}

/** Test files that run in one pool. */
interface Pass {
  readonly files: readonly string[];
  readonly arguments: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

async function matching(pattern: string): Promise<string[]> {
  return (await Array.fromAsync(new Bun.Glob(pattern).scan({ cwd: ROOT }))).sort();
}

/** The test files of all tiers. */
async function everyTest({ isFull }: Options): Promise<Pass> {
  return {
    files: await matching("tests/**/*.test.ts"),
    arguments: isFull ? ["--update-timings"] : [],
    env: isFull ? { [fullCheckVariable]: "1", BLACKTREE_TEST_BUILDKIT: "1" } : {},
  };
}

/** Those that depend most on how the broker behaves, with the newer one. */
async function testsOfRabbitMq(): Promise<Pass> {
  const files = [await matching(`${QUEUE_TESTS}/*.test.ts`), ...BROKER_TESTS].flat();
  return { files, arguments: files, env: { [rabbitMqVariable]: "4.0" } };
}

async function runTests(pass: Pass, { filesAtOnce }: Options, reports: string): Promise<TestReport> {
  const path = join(reports, `${crypto.randomUUID()}.xml`);
  const status = await bun(
    [
      "test",
      `--parallel=${filesAtOnce}`,
      "--parallel-delay=0",
      `--timings=${DURATIONS}`,
      "--reporter=junit",
      `--reporter-outfile=${path}`,
      ...pass.arguments,
    ],
    pass.env,
  );
  const xml = await Bun.file(path)
    .text()
    .catch(() => "");
  const report = readTestReport(xml, pass.files);
  if (status === 0 || report.count.failed > 0) return report;
  // A run with a failing exit status has not passed, even if its report lists no failure.
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

/** The error, the logs of the programs, and the command that runs the test again. */
function describeFailure({ file, name, message }: FailedTest, { env }: Pass): string[] {
  const logs = programLogsOf(file);
  // A file whose tests start no program of their own has none.
  const kept = existsSync(logs)
    ? Array.from(new Bun.Glob("*.log").scanSync({ cwd: logs, onlyFiles: true })).sort()
    : [];
  const variables = Object.entries(env).map(([key, value]) => `${key}=${value}`);
  const pattern = name?.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll('"', '\\"');
  return [
    "",
    `FAILED  ${file}${name === undefined ? "" : ` > ${name}`}`,
    ...message
      .split("\n")
      .slice(0, MAX_MESSAGE_LINES)
      .map((line) => `    ${line}`),
    ...(kept.length > 0
      ? [`  logs of its programs in ${relative(ROOT, logs)}/, with their last lines:`]
      : []),
    ...kept.map((log) => `    ${log}: ${lastLine(join(logs, log))}`),
    `  run again: ${[...variables, "bun test", file].join(" ")}${pattern === undefined ? "" : ` -t "${pattern}"`}`,
  ];
}

/** Removes the logs of files that passed. If a file failed, the logs of the shared servers are kept too. */
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

/** Runs with the default seed. */
async function drill(size: readonly string[], options?: BunOptions): Promise<Count> {
  const missing = await missingDockerEngine("26.1");
  if (missing === undefined)
    return (await bun(["tests/drill/drill.ts", ...size], {}, options)) === 0 ? PASSED : FAILED;
  console.log(missing);
  return { ...NOTHING, skipped: 1 };
}

/**
 * A step that begins with an earlier one, since it mostly waits. With a higher priority, since a drill sees less on a
 * machine that is overloaded for it. `finish` prints its output.
 */
function startDrill(reports: string): { finish(): Promise<Count> } {
  const output = Bun.file(join(reports, "drill.log"));
  const ended = drill(DRILL.default, { launcher: ["nice", "-n", "-10"], output });
  return {
    async finish() {
      const count = await ended;
      console.log(await output.text());
      return count;
    },
  };
}

async function prerequisites(): Promise<Count> {
  await removeAbandoned();
  const { installed, engines } = await ensurePrerequisites("check", (line) => console.log(line));
  console.log(installed.length > 0 ? `installed ${installed.join(", ")}` : "nothing was missing");
  for (const [engine, state] of Object.entries(engines)) {
    console.log(
      `Docker ${engine}: ${state === "available" ? state : `its tests are skipped: ${state.reason}`}`,
    );
  }
  const missing = await missingDebian13();
  console.log(
    `RabbitMQ 4.0, Redis 8.0, Valkey 8.1: ${missing === undefined ? "available" : `their tests are skipped: ${missing}`}`,
  );
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
  /** Of all tests, without those that ran again. */
  readonly report: TestReport | undefined;
  readonly failures: readonly FailedTest[];
  readonly failureLines: readonly string[];
}

async function check(options: Options, reports: string): Promise<CheckOutcome> {
  let report: TestReport | undefined;
  const failures: FailedTest[] = [];
  const failureLines: string[] = [];
  const runPass = async (pass: Pass) => {
    const passed = await runTests(pass, options, reports);
    failures.push(...passed.failures);
    // Before another pass writes logs of the same files.
    failureLines.push(...passed.failures.flatMap((failure) => describeFailure(failure, pass)));
    return passed;
  };
  let drillBeside: ReturnType<typeof startDrill> | undefined;
  const tests = async () => {
    rmSync(programLogsRoot, { recursive: true, force: true });
    // The drill of the full check is long, and measures memory: it runs alone.
    if (!options.isFull) drillBeside = startDrill(reports);
    report = await runPass(await everyTest(options));
    return report.count;
  };
  const testsOfNewerBroker = async () => {
    const missing = await missingDebian13();
    if (missing === undefined) return (await runPass(await testsOfRabbitMq())).count;
    console.log(missing);
    return { ...NOTHING, skipped: 1 };
  };
  const steps: Step[] = [
    { name: "prerequisites", run: prerequisites },
    { name: "lint", run: script("lint") },
    { name: "plain language", run: plainLanguage },
    { name: "types", run: script("types") },
    { name: "generated code", run: generatedCode },
    { name: "compile", run: script("build") },
    { name: "tests", run: tests },
    ...(options.isFull
      ? [
          { name: "RabbitMQ 4.0", run: testsOfNewerBroker },
          { name: "mutants", run: mutants },
        ]
      : []),
    { name: "drill", run: () => drillBeside?.finish() ?? drill(DRILL.full) },
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
    // Without the prerequisites all other steps would fail with less useful errors.
    if (step.run === prerequisites && count.failed > 0) break;
  }
  console.log(`\n${summary.join("\n")}`);
  return { total, report, failures, failureLines };
}

/** The parts that only the full check runs. */
function describeFullCheck({ leftToFullCheck }: TestReport): string {
  const [, jobs, , faults] = DRILL.full;
  return (
    `only bun run check --full runs: ${leftToFullCheck} more tests (marked as such above), ` +
    "a BuildKit compiled from its sources, the broker's tests with RabbitMQ 4.0, the mutants, " +
    `and a drill of ${jobs} jobs and ${faults} faults`
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
  throw new Error(
    `--at-once ${values["at-once"]} is not a valid number of files, expected e.g. ${FILES_AT_ONCE}`,
  );
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
  const { total, report, failures, failureLines } = await check(options, reports);
  console.log(`in ${seconds(startMs)}`);
  if (report !== undefined) {
    keepLogsOf(failures);
    for (const line of describeDurations(report)) console.log(line);
    const others = total.skipped - report.leftToFullCheck;
    if (others > 0) console.log(`${others} skipped for other reasons, see above`);
    if (!options.isFull) console.log(describeFullCheck(report));
  }
  for (const line of failureLines) console.log(line);
  // Scripts read this line; it must be the last one.
  console.log(`\n${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 ? 1 : 0;
}

process.exit(await main());

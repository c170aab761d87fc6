/**
 * `bun run check`: everything that the project holds itself to, step by step, on this machine. A failing step does not
 * keep the others from running. The last line is always the count of what passed and failed.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { missingDockerEngine } from "./support/docker-engines.ts";
import { ensurePrerequisites } from "./support/prerequisites.ts";

const ROOT = join(import.meta.dir, "..");
const GENERATED = "src/shared/rpc/generated";
/** A step that takes longer hangs. */
const STEP_TIMEOUT_MS = 30 * 60_000;
/** On a busy machine real servers take longer than Bun gives a test; files that need even more say so themselves. */
const TEST_TIMEOUT_MS = 60_000;

interface Count {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface Step {
  readonly name: string;
  run(): Promise<Count>;
}

const PASSED: Count = { passed: 1, failed: 0, skipped: 0 };
const FAILED: Count = { passed: 0, failed: 1, skipped: 0 };

/** Bun itself, with its own folder for what scripts call by name, and `node` where the machine has none. */
async function bun(...args: string[]): Promise<number> {
  const child = Bun.spawn([process.execPath, ...args], {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    timeout: STEP_TIMEOUT_MS,
  });
  const end = () => child.kill();
  process.once("exit", end);
  try {
    return await child.exited;
  } finally {
    process.off("exit", end);
  }
}

const script = (name: string) => async () => ((await bun("run", name)) === 0 ? PASSED : FAILED);

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
  if ((await bun("run", "generate")) !== 0) return FAILED;
  const after = await contents(GENERATED);
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  const changed = paths.filter((path) => before.get(path) !== after.get(path));
  if (changed.length === 0) return PASSED;
  console.log(`Not what proto/ gives; the files are now up to date, to be looked at and committed:`);
  for (const path of changed) console.log(`  ${GENERATED}/${path}`);
  return FAILED;
}

function tests(folder: string, reports: string): () => Promise<Count> {
  return async () => {
    const report = join(reports, `${folder.replaceAll("/", "-")}.xml`);
    const reporting = ["--reporter=junit", `--reporter-outfile=${report}`];
    // Most tests wait for servers, so two files at once take little more than one.
    const limits = ["--parallel=2", "--no-orphans", `--timeout=${TEST_TIMEOUT_MS}`];
    const status = await bun("test", `./${folder}`, ...limits, ...reporting);
    const count = await readReport(report, folder);
    // Whatever the report says, a run that ended badly has not passed.
    return status !== 0 && count.failed === 0 ? { ...count, failed: 1 } : count;
  };
}

async function readReport(path: string, folder: string): Promise<Count> {
  const report = await Bun.file(path)
    .text()
    .catch(() => "");
  const total = /<testsuites [^>]*>/.exec(report)?.[0] ?? "";
  const attribute = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(total)?.[1] ?? 0);
  // A file that cannot even be loaded is not in the report.
  const files = await Array.fromAsync(new Bun.Glob(`${folder}/**/*.test.ts`).scan({ cwd: ROOT }));
  const unloaded = files.filter((file) => !report.includes(` file="${file}"`));
  for (const file of unloaded) console.log(`no test of ${file} has run`);
  const failures = attribute("failures");
  const skipped = attribute("skipped");
  return {
    passed: attribute("tests") - failures - skipped,
    failed: failures + unloaded.length,
    skipped,
  };
}

function describe({ passed, failed, skipped }: Count): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}

/** A short one, with the seed that it has by default; longer ones are run by hand. */
async function drill(): Promise<Count> {
  const missing = await missingDockerEngine("26.1");
  if (missing === undefined) return (await bun("tests/drill/drill.ts")) === 0 ? PASSED : FAILED;
  console.log(missing);
  return { passed: 0, failed: 0, skipped: 1 };
}

async function prerequisites(): Promise<Count> {
  const { installed, engines } = await ensurePrerequisites("check", (line) => console.log(line));
  console.log(installed.length > 0 ? `installed ${installed.join(", ")}` : "nothing was missing");
  for (const [engine, state] of Object.entries(engines)) {
    console.log(
      `Docker ${engine}: ${state === "available" ? state : `tests of it are skipped: ${state.reason}`}`,
    );
  }
  return { passed: 0, failed: 0, skipped: 0 };
}

async function runStep(step: Step): Promise<Count> {
  try {
    return await step.run();
  } catch (error) {
    console.log(error instanceof Error ? error.message : String(error));
    return FAILED;
  }
}

async function check(reports: string): Promise<Count> {
  const steps: Step[] = [
    { name: "prerequisites", run: prerequisites },
    { name: "lint", run: script("lint") },
    { name: "types", run: script("types") },
    { name: "generated code", run: generatedCode },
    { name: "unit tests", run: tests("tests/unit", reports) },
    { name: "compile", run: script("build") },
    { name: "integration tests", run: tests("tests/integration", reports) },
    { name: "end-to-end tests", run: tests("tests/e2e", reports) },
    { name: "drill", run: drill },
  ];
  const summary: string[] = [];
  let total: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const [index, step] of steps.entries()) {
    console.log(`\n=== ${index + 1}/${steps.length} ${step.name}`);
    const startMs = performance.now();
    const count = await runStep(step);
    const line = `${step.name.padEnd(18)} ${seconds(startMs).padStart(8)}  ${describe(count)}`;
    console.log(`--- ${line}`);
    summary.push(line);
    total = {
      passed: total.passed + count.passed,
      failed: total.failed + count.failed,
      skipped: total.skipped + count.skipped,
    };
    // Without them every other step would fail, and say less about why.
    if (step.run === prerequisites && count.failed > 0) break;
  }
  console.log(`\n${summary.join("\n")}`);
  return total;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));
const startMs = performance.now();
const reports = mkdtempSync(join(tmpdir(), "blacktree-check-"));
process.once("exit", () => rmSync(reports, { recursive: true, force: true }));
const total = await check(reports);
console.log(`in ${seconds(startMs)}`);
if (total.skipped > 0) console.log(`${total.skipped} skipped, each with its reason above`);
// Scripts read this line, which is the last.
console.log(`\n${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed > 0 ? 1 : 0);

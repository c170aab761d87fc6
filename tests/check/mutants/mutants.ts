/**
 * `bun run mutants`: changes one line of the fence, the acks or the leases at a time, in a copy of the checkout, and runs
 * the test that has to fail then. A mutation that no test catches is a promise that no test holds.
 * The last line is always the number of caught mutations, and of those that were not.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fullCheckVariable } from "../../support/machine/full-check.ts";
import { type DrillRun, MUTATIONS, type Mutation } from "./mutations.ts";

const ROOT = join(import.meta.dir, "../../..");
const COPIED = [
  "src",
  "proto",
  "tests",
  "build.ts",
  "package.json",
  "tsconfig.json",
  "bunfig.toml",
  "bun.lock",
];
/** Each has a copy of the checkout. */
const AT_ONCE = 2;
const TIMEOUT_MS = 900_000;

const USAGE = `bun run mutants [--only TEXT]

  --only TEXT   only mutations whose name contains the text`;

type Verdict =
  | { readonly kind: "caught" }
  | { readonly kind: "failed"; readonly why: string; readonly output: string };

/** A copy of the checkout that one mutation at a time may change. */
class Sandbox {
  readonly #root = mkdtempSync(join(tmpdir(), "blacktree-mutants-"));

  constructor() {
    for (const name of COPIED) cpSync(join(ROOT, name), join(this.#root, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(this.#root, "node_modules"));
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }

  /** The output of the tests, or of the drill, and whether they passed. */
  async test(test: Mutation["test"]): Promise<{ readonly isPassed: boolean; readonly output: string }> {
    const child = Bun.spawn([process.execPath, ...argumentsOf(test)], {
      cwd: this.#root,
      // A mutation may need a test that the default check leaves out.
      env: { ...process.env, [fullCheckVariable]: "1", BLACKTREE_SCHEDULES: "1000" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: TIMEOUT_MS,
    });
    const output = (await Promise.all([child.stdout.text(), child.stderr.text()])).join("\n");
    return { isPassed: (await child.exited) === 0, output };
  }

  async judge(mutation: Mutation): Promise<Verdict> {
    const path = join(this.#root, mutation.file);
    const source = readFileSync(path, "utf8");
    const count = source.split(mutation.from).length - 1;
    if (count !== 1) return { kind: "failed", why: `its text is ${count} times in the file`, output: "" };
    writeFileSync(
      path,
      source.replace(mutation.from, () => mutation.to),
    );
    try {
      const { isPassed, output } = await this.test(mutation.test);
      if (isPassed) return { kind: "failed", why: "its test passed", output };
      // A file that does not load fails without any failed test, as does a drill whose programs do not start.
      if (!/^(\(fail\)|BREACH:) /m.test(output)) return { kind: "failed", why: "no test ran", output };
      return { kind: "caught" };
    } finally {
      writeFileSync(path, source);
    }
  }
}

function argumentsOf(test: Mutation["test"]): readonly string[] {
  if (isDrill(test)) return ["tests/drill/drill.ts", ...test.drill];
  const { file, name } = test;
  const selection = name === undefined ? [] : ["-t", name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")];
  return ["test", file, ...selection];
}

function isDrill(test: Mutation["test"]): test is DrillRun {
  return "drill" in test;
}

/** A test that fails without any mutation proves nothing. */
async function baseline(
  selections: readonly Mutation["test"][],
  sandboxes: readonly Sandbox[],
): Promise<string[]> {
  const failures: string[] = [];
  await eachTest(
    selections,
    (selection) => selection,
    sandboxes,
    async (selection, sandbox) => {
      const { isPassed, output } = await sandbox.test(selection);
      if (!isPassed) failures.push(`${describe(selection)} fails without a mutation:\n${tail(output)}`);
    },
  );
  return failures;
}

/** One drill at a time, and nothing else meanwhile: a machine that is too busy loses leases without any fault. */
async function eachTest<Item>(
  items: readonly Item[],
  testOf: (item: Item) => Mutation["test"],
  sandboxes: readonly Sandbox[],
  use: (item: Item, sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  const drills = items.filter((item) => isDrill(testOf(item)));
  const tests = items.filter((item) => !isDrill(testOf(item)));
  await each(tests, sandboxes, use);
  await each(drills, sandboxes.slice(0, 1), use);
}

async function each<Item>(
  items: readonly Item[],
  sandboxes: readonly Sandbox[],
  use: (item: Item, sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  const left = [...items];
  await Promise.all(
    sandboxes.map(async (sandbox) => {
      for (let item = left.shift(); item !== undefined; item = left.shift()) await use(item, sandbox);
    }),
  );
}

function describe(test: Mutation["test"]): string {
  if (isDrill(test)) return `drill ${test.drill.join(" ")}`;
  const { file, name } = test;
  return name === undefined ? file : `${file} > ${name}`;
}

function tail(output: string): string {
  return output.trimEnd().split("\n").slice(-20).join("\n");
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: "string" }, help: { type: "boolean" } } });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const mutations = MUTATIONS.filter(({ name }) => name.includes(values.only ?? ""));
  const selections = new Map(mutations.map(({ test }) => [describe(test), test]));
  const sandboxes = Array.from({ length: AT_ONCE }, () => new Sandbox());
  let [caught, failed] = [0, 0];
  try {
    const failures = await baseline([...selections.values()], sandboxes);
    for (const failure of failures) console.log(failure);
    failed += failures.length;
    await eachTest(
      mutations,
      ({ test }) => test,
      sandboxes,
      async (mutation, sandbox) => {
        const startMs = performance.now();
        const verdict = await sandbox.judge(mutation);
        const seconds = ((performance.now() - startMs) / 1000).toFixed(1).padStart(6);
        if (verdict.kind === "caught") caught += 1;
        else failed += 1;
        const outcome = verdict.kind === "caught" ? "caught by" : `NOT CAUGHT, ${verdict.why}:`;
        console.log(`${seconds} s  ${mutation.name}: ${outcome} ${describe(mutation.test)}`);
        if (verdict.kind === "failed" && verdict.output !== "") console.log(tail(verdict.output));
      },
    );
  } finally {
    for (const sandbox of sandboxes) sandbox.remove();
  }
  console.log(`\n${caught} passed, ${failed} failed`);
  return failed > 0 ? 1 : 0;
}

process.exit(await main());

/** What a run of `bun test` came to, read from the JUnit report that it writes. */
import { onlyInFullCheck } from "../support/machine/full-check.ts";

export interface Count {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface FailedTest {
  /** Relative to the checkout. */
  readonly file: string;
  /** With the names of the blocks around it, as `-t` takes it; undefined when the file itself or a hook of it failed. */
  readonly name: string | undefined;
  readonly message: string;
}

export interface TestReport {
  readonly count: Count;
  readonly failures: readonly FailedTest[];
  /** Tests that only the full check runs, as part of those that were skipped. */
  readonly leftToFullCheck: number;
  /** By file. */
  readonly durationsMs: ReadonlyMap<string, number>;
}

/** Bun's name for what fails in `beforeAll` and `afterAll`. */
const HOOK = "(unnamed)";

const ELEMENT = /<(testcase|failure|skipped|testsuite)\b([^>]*)>/g;

/** @param files all that should have run: a file that cannot even be loaded is not in the report. */
export function readTestReport(xml: string, files: readonly string[]): TestReport {
  const failures: FailedTest[] = [];
  const durationsMs = new Map<string, number>();
  let [tests, skipped, leftToFullCheck] = [0, 0, 0];
  let current: { file: string; name: string | undefined } = { file: "", name: undefined };
  for (const [, element, text = ""] of xml.matchAll(ELEMENT)) {
    const attributes = attributesOf(text);
    const { file = "", name = "", classname = "", message = "", type = "", time = "0" } = attributes;
    if (element === "testsuite") {
      // The suite of a whole file is the one that is named after it.
      if (name === file) durationsMs.set(file, Number(time) * 1000);
    } else if (element === "testcase") {
      tests += 1;
      const blocks = classname.split(" > ").reverse();
      current = { file, name: name === HOOK ? undefined : [...blocks, name].filter(Boolean).join(" ") };
    } else if (element === "failure") {
      failures.push({ ...current, message: message || type });
    } else {
      skipped += 1;
      if (current.name?.includes(onlyInFullCheck)) leftToFullCheck += 1;
    }
  }
  const unread = files.filter((file) => !durationsMs.has(file));
  const failed = failures.length;
  return {
    count: { passed: tests - failed - skipped, failed: failed + unread.length, skipped },
    failures: [
      ...failures,
      ...unread.map((file) => ({ file, name: undefined, message: "no test of this file has run" })),
    ],
    leftToFullCheck,
    durationsMs,
  };
}

function attributesOf(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/ (\w+)="([^"]*)"/g)];
  return Object.fromEntries(pairs.map(([, name = "", value = ""]) => [name, unescapeXml(value)]));
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function unescapeXml(text: string): string {
  return text.replace(/&(?:#(\d+)|(\w+));/g, (whole, code, name) =>
    code === undefined ? (ENTITIES[name] ?? whole) : String.fromCodePoint(Number(code)),
  );
}

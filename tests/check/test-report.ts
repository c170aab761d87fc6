/** Reads the JUnit report of a run of `bun test`. */
import { onlyInFullCheck } from "../support/machine/full-check.ts";

export interface Count {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface FailedTest {
  /** Relative to the checkout. */
  readonly file: string;
  /** Name with those of the blocks around it, as `-t` expects it; undefined when the file or a hook failed. */
  readonly name: string | undefined;
  readonly message: string;
}

export interface TestReport {
  readonly count: Count;
  readonly failures: readonly FailedTest[];
  /** How many of the skipped tests are those that only the full check runs. */
  readonly leftToFullCheck: number;
  /** By file. */
  readonly durationsMs: ReadonlyMap<string, number>;
}

/** The name that Bun reports for a failure in `beforeAll` or `afterAll`. */
const HOOK = "(unnamed)";

const ELEMENT = /<(testcase|failure|skipped|testsuite)\b([^>]*)>/g;

/** @param files all files that should have run: the report does not list files that fail to load. */
export function readTestReport(xml: string, files: readonly string[]): TestReport {
  const failures: FailedTest[] = [];
  const durationsMs = new Map<string, number>();
  let [tests, skipped, leftToFullCheck] = [0, 0, 0];
  let current: { file: string; name: string | undefined } = { file: "", name: undefined };
  for (const [, element, text = ""] of xml.matchAll(ELEMENT)) {
    const attributes = attributesOf(text);
    const { file = "", name = "", classname = "", message = "", type = "", time = "0" } = attributes;
    if (element === "testsuite") {
      // The suite of a whole file has the name of the file.
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
      ...unread.map((file) => ({ file, name: undefined, message: "no test of this file was run" })),
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

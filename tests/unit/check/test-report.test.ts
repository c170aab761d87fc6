import { expect, test } from "bun:test";
import { readTestReport } from "../../check/test-report.ts";
import { onlyInFullCheck } from "../../support/machine/full-check.ts";

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="4" assertions="2" failures="1" skipped="2" time="0.02">
  <testsuite name="tests/unit/a.test.ts" file="tests/unit/a.test.ts" tests="4" failures="1" skipped="2" time="1.5" hostname="h">
    <testsuite name="outer" file="tests/unit/a.test.ts" line="1" tests="4" time="0.2" hostname="h">
      <testsuite name="inner" file="tests/unit/a.test.ts" line="2" tests="4" time="0.2" hostname="h">
        <testcase name="passes" classname="inner &gt; outer" time="0.1" file="tests/unit/a.test.ts" line="3" assertions="1" />
        <testcase name="a &lt;b&gt; &quot;fails&quot;" classname="inner &gt; outer" time="0.1" file="tests/unit/a.test.ts" line="4" assertions="1">
          <failure type="AssertionError" message="expected 1&#10;received 2 &amp; 3">AssertionError: expected 1</failure>
        </testcase>
        <testcase name="waits${onlyInFullCheck}" classname="inner &gt; outer" time="0" file="tests/unit/a.test.ts" line="5">
          <skipped />
        </testcase>
        <testcase name="has no engine" classname="inner &gt; outer" time="0" file="tests/unit/a.test.ts" line="6">
          <skipped />
        </testcase>
      </testsuite>
    </testsuite>
  </testsuite>
</testsuites>`;

const FILE = "tests/unit/a.test.ts";

test("test report: counts passed, failed and skipped tests, and those that only the full check runs", () => {
  const { count, leftToFullCheck, durationsMs } = readTestReport(REPORT, [FILE]);
  expect(count).toEqual({ passed: 1, failed: 1, skipped: 2 });
  expect(leftToFullCheck).toBe(1);
  expect([...durationsMs]).toEqual([[FILE, 1500]]);
});

test("test report: names a failed test as -t accepts it, with its message", () => {
  expect(readTestReport(REPORT, [FILE]).failures).toEqual([
    { file: FILE, name: 'outer inner a <b> "fails"', message: "expected 1\nreceived 2 & 3" },
  ]);
});

test("test report: a failed hook fails its file", () => {
  const report = REPORT.replace('name="a &lt;b&gt; &quot;fails&quot;"', 'name="(unnamed)"');
  expect(readTestReport(report, [FILE]).failures).toMatchObject([{ file: FILE, name: undefined }]);
});

test("test report: a file that is missing in the report counts as failed", () => {
  const { count, failures } = readTestReport(REPORT, [FILE, "tests/unit/b.test.ts"]);
  expect(count.failed).toBe(2);
  expect(failures.at(-1)).toMatchObject({ file: "tests/unit/b.test.ts", name: undefined });
});

test("test report: without a report, every file counts as failed", () => {
  expect(readTestReport("", [FILE]).count).toEqual({ passed: 0, failed: 1, skipped: 0 });
});

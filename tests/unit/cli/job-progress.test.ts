import { afterEach, beforeEach, expect, test } from "bun:test";
import { LiveProgress, plainProgress } from "../../../src/cli/job-progress.ts";
import { screenAfter } from "../../support/machine/screen.ts";

const STEP = { number: 5, name: "[2/4] RUN make", started_at: "2026-01-31T12:00:00Z" };
const ENDED = { ...STEP, ended_at: "2026-01-31T12:00:12Z", duration_ms: 12_340, cached: false };

let output: string;
let nowMs: number;
let size: { columns: number; rows: number };
let progress: LiveProgress;

function start(hasColors = false): LiveProgress {
  const terminal = {
    print: (text: string) => {
      output += `${text}\n`;
    },
    get columns() {
      return size.columns;
    },
    get rows() {
      return size.rows;
    },
  };
  return new LiveProgress(terminal, hasColors, () => nowMs);
}

beforeEach(() => {
  output = "";
  nowMs = 0;
  size = { columns: 80, rows: 24 };
  progress = start();
});
afterEach(() => progress.close());

const screen = () => screenAfter(output, size.columns).filter((line) => line !== "");

test("running steps stay below the log, and ended ones are in it once", () => {
  progress.note("job web-42");
  progress.state("BUILDING");
  progress.step(STEP);
  progress.line("#5 [2/4] RUN make");
  nowMs = 12_000;
  progress.line("#5 0.100 compiles");
  expect(screen()).toEqual([
    ...["job web-42", "--- BUILDING", "#5 [2/4] RUN make", "#5 0.100 compiles"],
    ...["  #5 12 s  [2/4] RUN make", "12 s  BUILDING"],
  ]);
  progress.step(ENDED);
  progress.line("#5 DONE 12.3s");
  progress.step({ ...ENDED, number: 6, name: "[3/4] COPY", cached: true });
  progress.step({ ...ENDED, number: 7, name: "[4/4] RUN", error: "exit code: 1" });
  progress.close();
  expect(screen()).toEqual([
    ...["job web-42", "--- BUILDING", "#5 [2/4] RUN make", "#5 0.100 compiles"],
    ...["✓ #5 [2/4] RUN make  12.3 s", "✓ #6 [3/4] COPY  cached", "✗ #7 [4/4] RUN  12.3 s"],
  ]);
});

test("without step events, the log has the ends of steps", () => {
  progress.line("#5 DONE 12.3s");
  progress.close();
  expect(screen()).toEqual(["#5 DONE 12.3s"]);
});

test("steps of an earlier attempt do not remain", () => {
  progress.step(STEP);
  progress.state("CLONING");
  progress.step(ENDED);
  progress.state("CLONING");
  progress.line("#5 DONE 1.0s");
  progress.close();
  expect(screen()).toEqual(["--- CLONING", "✓ #5 [2/4] RUN make  12.3 s", "--- CLONING", "#5 DONE 1.0s"]);
});

test("lines fit the terminal, also after it has become narrower or lower", () => {
  progress.state("BUILDING");
  for (let number = 1; number <= 12; number += 1)
    progress.step({ ...STEP, number, name: `日本 ${"x".repeat(90)}` });
  const shown = screen();
  expect(shown).toHaveLength(11);
  expect(shown.at(-2)).toBe("  and 4 more steps");
  for (const line of shown.slice(1)) expect(Bun.stringWidth(line)).toBeLessThan(80);
  size = { columns: 20, rows: 5 };
  output = "";
  progress.note("resized");
  // The eight lines of 79 columns are in four rows each now.
  expect(output).toStartWith("\u001b[34A\r\u001b[J");
  expect(output.split("\n").slice(1, -1)).toHaveLength(4);
});

test("invisible characters of a repository's step are shown, and colours only when asked for", () => {
  progress.step({ ...STEP, name: "RUN \u202e\u001b[31mevil" });
  expect(output).toContain("RUN <U+202E><U+001B>[31mevil");
  expect(output).not.toContain("\u001b[2m");
  progress.close();
  output = "";
  progress = start(true);
  progress.step(ENDED);
  expect(output).toContain("\u001b[32m✓");
});

test("plain progress is the lines and states", () => {
  const lines: string[] = [];
  const plain = plainProgress((text) => lines.push(text));
  plain.note("job web-42");
  plain.state("BUILDING");
  plain.step(STEP);
  plain.line("#5 DONE 1.0s");
  plain.close();
  expect(lines).toEqual(["job web-42", "--- BUILDING", "#5 DONE 1.0s"]);
});

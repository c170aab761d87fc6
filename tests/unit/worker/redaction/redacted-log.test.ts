import { describe, expect, test } from "bun:test";
import { PlainProgress } from "../../../../src/worker/buildkit/progress/plain.ts";
import { RedactedLog } from "../../../../src/worker/redaction/redacted-log.ts";
import { Redactor } from "../../../../src/worker/redaction/redactor.ts";

const SECRET = "correct-horse-battery";

function logged(lines: readonly string[], { isEnded = true } = {}): string[] {
  const redactor = new Redactor();
  redactor.add(SECRET);
  const out: string[] = [];
  const log = new RedactedLog(redactor, (line) => out.push(line));
  const unused = () => undefined;
  const progress = new PlainProgress({ output: (line) => log.add(line), onStep: unused, onPushing: unused });
  for (const line of lines) progress.line(line);
  if (isEnded) log.end();
  return out;
}

describe("RedactedLog", () => {
  test("masks a secret whose parts BuildKit prints as separate lines, between lines of other steps", () => {
    expect(
      logged([
        "#7 0.100 the password is correct-hor",
        "",
        "#8 0.110 other",
        "",
        "#7 0.200 se-battery, or not",
        "#7 DONE 0.3s",
      ]),
    ).toEqual([
      "#8 0.110 other",
      "",
      "#7 0.100 the password is ***",
      "***",
      "#7 0.200 ***, or not",
      "#7 DONE 0.3s",
    ]);
  });

  test("does not count a step's number and time as output of the step", () => {
    expect(logged(["#7 0.100 correct-horse", "#8 0.100 -battery"])).toEqual([
      "#8 0.100 -battery",
      "#7 0.100 ***",
    ]);
  });

  test("counts a line without a step as output of the last step: a long line arrives in parts", () => {
    expect(logged(["#7 0.100 correct-horse", "-battery and more"])).toEqual(["#7 0.100 ***", "*** and more"]);
  });

  test("passes a line on at once when it does not end like a secret", () => {
    expect(logged(["#7 0.100 one", "two"], { isEnded: false })).toEqual(["#7 0.100 one", "two"]);
    expect(logged(["#7 0.100 one corr", "#8 0.1 two"], { isEnded: false })).toEqual(["#8 0.1 two"]);
  });

  test("passes a text of several lines on as several lines", () => {
    expect(logged(["ERROR: one\ncorrect-horse-battery"])).toEqual(["ERROR: one", "***"]);
  });
});

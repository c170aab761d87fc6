/** Secrets of the largest sizes that a message can have: adding and finding them does not block a worker. */
import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { Redactor } from "../../../../src/worker/redaction/redactor.ts";
import { expectToShareEventLoop } from "../../../support/machine/event-loop-lag.ts";

const secretOf = (chars: number) =>
  randomBytes(Math.ceil((chars * 3) / 4))
    .toString("base64")
    .slice(0, chars);

test("one long secret does not block", async () => {
  const secret = secretOf(100_000);
  await expectToShareEventLoop(() => new Redactor().addAll([secret]));
});

test("many secrets do not block", async () => {
  const secrets = Array.from({ length: 300 }, () => secretOf(60));
  await expectToShareEventLoop(() => new Redactor().addAll(secrets));
});

test("a secret of many lines does not block", async () => {
  const lines = Array.from({ length: 5000 }, () => secretOf(12)).join("\n");
  await expectToShareEventLoop(() => new Redactor().addAll([lines]));
});

describe("a long secret is masked", () => {
  const letters = secretOf(5000);
  // A pair of surrogates at every offset of a part.
  const secret = `${letters}${"🔑a".repeat(700)}${letters}`;
  const forms = {
    verbatim: secret,
    "in base64": Buffer.from(secret).toString("base64"),
    "in hex": Buffer.from(secret).toString("hex"),
    "percent-encoded": encodeURIComponent(secret),
    "as JSON": JSON.stringify(secret).slice(1, -1),
  };
  for (const [name, form] of Object.entries(forms)) {
    test(name, async () => {
      const redactor = new Redactor();
      await redactor.addAll([secret]);
      expect(redactor.clean(`begin ${form} end`)).toBe("begin *** end");
    });
  }

  test("line by line, however many lines it has", async () => {
    const lines = Array.from({ length: 2000 }, (_, index) => `a line with number ${index}`);
    const redactor = new Redactor();
    await redactor.addAll([lines.join("\n")]);
    for (const line of [lines[0], lines[999], lines[1500], lines[1999]])
      expect(redactor.clean(`> ${line} <`)).toBe("> *** <");
  });
});

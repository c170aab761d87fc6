/**
 * Random secrets in random text, printed in random encodings and cut into random chunks, through the same code as real
 * output. FUZZ_SEED repeats one round; a failure names it.
 */
import { describe, expect, test } from "bun:test";
import { LineSplitter } from "../../../../src/worker/process/line-splitter.ts";
import { RedactedLog } from "../../../../src/worker/redaction/redacted-log.ts";
import { Redactor } from "../../../../src/worker/redaction/redactor.ts";
import { SeededRandom } from "../../../drill/seeded-random.ts";

const ROUNDS = 100;

/** This many consecutive characters of a secret count as a leak. */
const TOLD_CHARS = 8;
const MAX_LINE_CHARS = 200;

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/** Special characters of regular expressions, JSON, URLs and shells, and characters of two to four bytes. */
const OTHERS = Array.from("+/=_-.*?^$|()[]{}\\\"'&%#@!~<>:;, äß€😀");

function text(random: SeededRandom, length: number, characters: readonly string[]): string {
  return Array.from({ length }, () => random.pick(characters)).join("");
}

function secretText(random: SeededRandom): string {
  const characters = random.pick([
    Array.from(LETTERS),
    Array.from("0123456789abcdef"),
    [...Array.from(LETTERS), ...OTHERS],
    OTHERS,
  ]);
  const lineCount = random.pick([1, 1, 1, 1, 2, 12]);
  const line = () => `S${text(random, random.integer([15, lineCount > 1 ? 64 : 400]), characters)}E`;
  return Array.from({ length: lineCount }, line).join("\n");
}

/** One secret may be a part of another, or share its beginning. */
function secretsOf(random: SeededRandom): string[] {
  const first = secretText(random);
  const characters = Array.from(first.replaceAll("\n", ""));
  const others = [
    secretText(random),
    characters.slice(0, 20).join("").trim(),
    characters.slice(-20).join("").trim(),
    `${characters.slice(0, 20).join("")}${secretText(random)}`,
  ];
  return random.shuffled([first, ...others.slice(0, random.integer([0, others.length]))]);
}

const percentOfEveryByte = (secret: string) => Buffer.from(secret).toString("hex").replaceAll(/../g, "%$&");
const base64 = (secret: string) => Buffer.from(secret).toString("base64");

/** How a program may print a secret. */
const ENCODINGS: readonly ((secret: string, random: SeededRandom) => string)[] = [
  (secret) => secret,
  (secret) => encodeURIComponent(secret),
  (secret) => encodeURIComponent(secret).replaceAll(/%../g, (digits) => digits.toLowerCase()),
  (secret) => new URLSearchParams({ secret }).toString().slice("secret=".length),
  percentOfEveryByte,
  (secret) => percentOfEveryByte(secret).toUpperCase(),
  (secret) => JSON.stringify({ secret }),
  (secret) => Buffer.from(secret).toString("hex"),
  (secret) => Buffer.from(secret).toString("hex").toUpperCase(),
  base64,
  (secret) => base64(secret).replaceAll("=", ""),
  (secret, random) => base64(`${text(random, random.integer([0, 4]), ["u"])}:${secret}\n`),
  (secret) => Buffer.from(secret).toString("base64url"),
  (secret, random) => wrapped(base64(secret), random.pick([60, 64, 76])),
  (secret, random) => wrapped(Buffer.from(`key: ${secret}`).toString("base64url"), random.integer([20, 80])),
  (secret, random) => coloured(secret, random),
  (secret) => secret.replaceAll("\n", "\r\n"),
  (secret) => secret.replaceAll(/^/gm, "    "),
];

function wrapped(text: string, columns: number): string {
  return text.replaceAll(new RegExp(`.{${columns}}`, "g"), "$&\n");
}

function coloured(secret: string, random: SeededRandom): string {
  const characters = Array.from(secret);
  const at = random.integer([0, characters.length]);
  return `${characters.slice(0, at).join("")}\u001b[01;31m${characters.slice(at).join("")}\u001b[0m`;
}

/** Never part of a secret's encodings: no letters, no digits and no base64 characters. */
const SURROUNDINGS = ["«", "»", " ", "¤", "\n", "\r\n", "…"];

function chunksOf(random: SeededRandom, output: string): Uint8Array[] {
  const bytes = new TextEncoder().encode(output);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = random.integer(
      random.pick([
        [1, 1],
        [1, 7],
        [1, 100],
      ] as const),
    );
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

/** The processing of a step's log: chunks, lines, BuildKit's prefix, redaction. */
function logged(random: SeededRandom, secrets: readonly string[], output: string): string[] {
  const redactor = new Redactor();
  for (const secret of secrets) redactor.add(secret);
  const lines: string[] = [];
  const log = new RedactedLog(redactor, (line) => lines.push(line));
  const prefix = random.pick(["", "#7 0.123 ", "#12 "]);
  const assembler = new LineSplitter((line) => log.add({ stream: "#7", prefix, text: line }), MAX_LINE_CHARS);
  for (const chunk of chunksOf(random, output)) assembler.push(chunk);
  assembler.end();
  log.end();
  return lines.map((line) => (line.startsWith(prefix) ? line.slice(prefix.length) : line));
}

function expectNothingTold(lines: readonly string[], secret: string, what: string): void {
  const told = lines.join("");
  for (const printed of ENCODINGS.slice(0, 11).map((encode) => encode(secret, new SeededRandom(0)))) {
    const characters = printed.replaceAll(/[\r\n]/g, "");
    for (let at = 0; at + TOLD_CHARS <= characters.length; at += 1) {
      const part = characters.slice(at, at + TOLD_CHARS);
      if (told.includes(part) && !isUbiquitous(part))
        throw new Error(
          `${what}: ${JSON.stringify(part)} of ${JSON.stringify(secret)} in ${JSON.stringify(told.slice(Math.max(0, told.indexOf(part) - 60), told.indexOf(part) + 60))}`,
        );
    }
  }
}

/** The JSON text around the secret. */
function isUbiquitous(part: string): boolean {
  return '{"secret":"'.includes(part);
}

const seeds = Bun.env.FUZZ_SEED
  ? [Bun.env.FUZZ_SEED]
  : Array.from({ length: ROUNDS }, (_, round) => `round ${round}`);

describe("redaction of random output", () => {
  test("leaks no part of a secret, in any encoding and chunks", () => {
    for (const seed of seeds) {
      const random = new SeededRandom(seed);
      const secrets = secretsOf(random);
      const output = Array.from({ length: 12 }, () => {
        const surrounding = text(random, random.integer([1, 30]), SURROUNDINGS);
        return surrounding + random.pick(ENCODINGS)(random.pick(secrets), random) + random.pick(SURROUNDINGS);
      }).join("");
      const lines = logged(random, secrets, output);
      for (const secret of secrets) expectNothingTold(lines, secret, `FUZZ_SEED='${seed}'`);
    }
  });

  test("leaves text without a secret unchanged", () => {
    for (const seed of seeds) {
      const random = new SeededRandom(seed);
      const characters = [...Array.from(LETTERS), ...OTHERS.filter((each) => each !== "@"), "\n"];
      const output = text(random, 3000, characters);
      const lines = logged(random, secretsOf(random), output);
      expect(lines.join("")).toBe(output.replaceAll("\n", ""));
    }
  });
});

/** Parses JSON that clients send. */
import { createScanner } from "jsonc-parser";

/** Far more than any request needs, and less than what programs with a recursive parser can read. */
const MAX_DEPTH = 64;

export type ReadJson = { readonly value: unknown } | { readonly problem: string };

/** Refuses also valid JSON that other programs could read differently: names given twice, text that is not Unicode. */
export function readJson(body: Uint8Array): ReadJson {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    return { problem: "not UTF-8; expected JSON in UTF-8" };
  }
  try {
    const value: unknown = JSON.parse(text);
    const problem = ambiguityOf(text);
    return problem === undefined ? { value } : { problem };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { problem: "not JSON; expected a JSON object" };
  }
}

/** The names of an object so far; undefined for an array. */
type Container = Set<string> | undefined;

/** Of a valid JSON text. */
function ambiguityOf(text: string): string | undefined {
  const scanner = createScanner(text, true);
  const containers: Container[] = [];
  let isName = false;
  for (;;) {
    scanner.scan();
    const start = scanner.getTokenOffset();
    if (start >= text.length) return undefined;
    switch (text.charAt(start)) {
      case "{":
      case "[":
        containers.push(text.charAt(start) === "{" ? new Set() : undefined);
        if (containers.length > MAX_DEPTH) return `nested more than ${MAX_DEPTH} levels`;
        isName = containers.at(-1) !== undefined;
        break;
      case "}":
      case "]":
        containers.pop();
        isName = false;
        break;
      case ",":
        isName = containers.at(-1) !== undefined;
        break;
      case '"': {
        const value = scanner.getTokenValue();
        if (!value.isWellFormed()) return "a string has half of a surrogate pair; expected Unicode text";
        if (isName && containers.at(-1)?.has(value))
          return "an object has the same name twice; expected it once";
        if (isName) containers.at(-1)?.add(value);
        isName = false;
        break;
      }
    }
  }
}

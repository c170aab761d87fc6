import { parseArgs } from "node:util";
import { UsageError } from "../bench-command.ts";
import { CASES, type CaseName } from "./cases.ts";
import { SIZES, type Size } from "./repositories.ts";

export interface BuildBenchOptions {
  readonly rounds: number;
  readonly cases: readonly CaseName[];
  readonly sizes: readonly Size[];
  readonly seed: string;
  readonly report: string | undefined;
}

export const FLAGS =
  "[--rounds 5] [--size small|large] [--only CASE]... [--seed blacktree] [--report FILE]\n" +
  `CASE: ${CASES.map(({ name }) => name).join(", ")}`;

export function readOptions(args: readonly string[]): BuildBenchOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        rounds: { type: "string", default: "5" },
        size: { type: "string", multiple: true },
        only: { type: "string", multiple: true },
        seed: { type: "string", default: "blacktree" },
        report: { type: "string" },
      },
    });
    const names = CASES.map(({ name }) => name);
    return {
      rounds: atLeastOne(values.rounds),
      cases: values.only ? values.only.map((given) => oneOf(names, given, "case")) : names,
      sizes: values.size ? values.size.map((given) => oneOf(SIZES, given, "size")) : SIZES,
      seed: values.seed,
      report: values.report,
    };
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function atLeastOne(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new Error(`--rounds ${text}: expected a number from 1 to 9999`);
  return Number(text);
}

function oneOf<Name extends string>(names: readonly Name[], given: string, what: string): Name {
  const found = names.find((name) => name === given);
  if (found) return found;
  throw new Error(`unknown ${what} ${given}; expected ${names.join(", ")}`);
}

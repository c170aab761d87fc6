import { parseArgs } from "node:util";
import { defaultRabbitMq, type RabbitMqVersion } from "../support/servers/rabbitmq.ts";
import type { FaultKind } from "./faults/fault.ts";
import { FAULT_KINDS } from "./faults/kinds.ts";

export interface Options {
  readonly jobs: number;
  readonly faults: number;
  /** The kinds to plan. */
  readonly faultKinds: readonly FaultKind[];
  readonly seed: string;
  readonly clocksApartSeconds: number;
  readonly rabbitMq: RabbitMqVersion;
  readonly report: string | undefined;
  /** Where the programs' logs are always kept; by default only a failed drill keeps them. */
  readonly logs: string | undefined;
}

const USAGE = `bun run drill [--jobs 100] [--faults 30] [--seed blacktree]
  --only TEXT             only kinds of faults whose name contains the text
  --clocks-apart SECONDS  one orchestrator's clock is behind, the other one's ahead
  --rabbitmq 4.0          on RabbitMQ 4.0 instead of the installed one
  --report FILE           the findings as JSON
  --logs FOLDER           keeps the programs' logs also of a drill that has passed`;

export class UsageError extends Error {
  override readonly name = "UsageError";
}

export function readOptions(args: readonly string[]): Options {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        jobs: { type: "string", default: "100" },
        faults: { type: "string", default: "30" },
        only: { type: "string", default: "" },
        seed: { type: "string", default: "blacktree" },
        "clocks-apart": { type: "string", default: "0" },
        rabbitmq: { type: "string", default: defaultRabbitMq },
        report: { type: "string" },
        logs: { type: "string" },
      },
    });
    const { seed, report, logs } = values;
    return {
      jobs: count(values.jobs),
      faults: count(values.faults),
      faultKinds: kindsOf(values.only),
      seed,
      clocksApartSeconds: count(values["clocks-apart"]),
      rabbitMq: rabbitMqOf(values.rabbitmq),
      report,
      logs,
    };
  } catch (cause) {
    throw new UsageError(`${cause instanceof Error ? cause.message : cause}\n${USAGE}`, { cause });
  }
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`${text} is not a number`);
  return Number(text);
}

function kindsOf(text: string): readonly FaultKind[] {
  const kinds = FAULT_KINDS.filter(({ name }) => name.includes(text));
  if (kinds.length > 0) return kinds;
  const names = FAULT_KINDS.map(({ name }) => `  ${name}`).join("\n");
  throw new Error(`no kind of fault contains "${text}"; the kinds are:\n${names}`);
}

function rabbitMqOf(text: string): RabbitMqVersion {
  if (text === "installed" || text === "4.0") return text;
  throw new Error(`--rabbitmq is ${text}, expected installed or 4.0`);
}

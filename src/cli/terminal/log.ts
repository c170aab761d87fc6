/** The log of `blacktree up` for a person at a terminal: one line for each record, without JSON. */
import { prettyFactory } from "pino-pretty";
import type { LogFormat } from "../../shared/logging.ts";
import { withVisibleCharacters } from "../../shared/visible-text.ts";

/** Fields that repeat the head of the line, or that are the same in every line. */
const NOT_SHOWN = new Set(["level", "time", "program", "msg"]);
/** A longer value is for programs; `--log-format json` shows it. */
const MAX_VALUE_LENGTH = 400;

export function terminalFormat(): LogFormat {
  const { stdout } = process;
  return prettyFactory({
    colorize: stdout.isTTY && stdout.hasColors(),
    translateTime: "SYS:HH:MM:ss",
    hideObject: true,
    messageFormat: describeRecord,
  });
}

/** @returns the message, then the fields as `name=value`. Of an error only its message. */
export function describeRecord(record: Readonly<Record<string, unknown>>): string {
  const fields = Object.entries(record).filter(([name]) => !NOT_SHOWN.has(name));
  const shown = fields.map(([name, value]) => `${name}=${describeValue(value)}`);
  return withVisibleCharacters([String(record.msg ?? ""), ...shown].join(" "));
}

function describeValue(value: unknown): string {
  const plain = isError(value) ? value.message : value;
  const text = typeof plain === "string" && /^[^\s"=]+$/.test(plain) ? plain : JSON.stringify(plain);
  return text.length <= MAX_VALUE_LENGTH ? text : `${text.slice(0, MAX_VALUE_LENGTH)}…`;
}

function isError(value: unknown): value is { readonly message: string } {
  return typeof value === "object" && value !== null && "message" in value && "stack" in value;
}

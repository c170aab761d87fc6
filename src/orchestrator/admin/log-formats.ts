/** The formats in which the admin API sends logs. */
import { encodeEntry, type JournalEntry } from "../../shared/log-journal.ts";
import { withVisibleCharacters } from "../../shared/visible-text.ts";
import type { LogPosition } from "../logs/job-logs.ts";

export const LOG_FORMATS = ["text", "raw", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** Which lines are sent; undefined: all entries. */
export type LineFilter = ((line: string) => boolean) | undefined;

/** A substring, not a pattern: no pattern of a client can make a search take longer than one pass. */
export function lineFilter(substring: string | undefined, ignoresCase: boolean): LineFilter {
  if (substring === undefined) return undefined;
  if (!ignoresCase) return (line) => line.includes(substring);
  const lower = substring.toLowerCase();
  return (line) => line.toLowerCase().includes(lower);
}

export const CONTENT_TYPES: Readonly<Record<LogFormat, string>> = {
  text: "text/plain; charset=UTF-8",
  raw: "application/octet-stream",
  json: "application/x-ndjson",
};

/** The text is for people; `raw` has the bytes that the log in the job's result describes. */
export function formatted(format: LogFormat, entries: readonly JournalEntry[]): Buffer {
  if (format === "json") return Buffer.from(entries.map(encodeEntry).join(""));
  let text = "";
  for (const entry of entries) if ("line" in entry) text += `${entry.line}\n`;
  return Buffer.from(format === "text" ? withVisibleCharacters(text) : text);
}

/** With a filter, only lines. */
export function filtered(entries: readonly JournalEntry[], filter: LineFilter): readonly JournalEntry[] {
  if (filter === undefined) return entries;
  return entries.filter((entry) => "line" in entry && filter(entry.line));
}

/** Server-sent events. A filter applies to lines. */
export function eventsOf(attempt: number, entries: readonly JournalEntry[], filter: LineFilter): string {
  let text = "";
  for (const entry of entries) {
    const id = `${attempt}.${entry.seq}`;
    if ("line" in entry) {
      if (filter === undefined || filter(entry.line)) text += eventOf("line", entry.line, id);
    } else if ("state" in entry) text += eventOf("state", entry.state, id);
    else text += eventOf("step", JSON.stringify(entry.step), id);
  }
  return text;
}

const LINE_BREAK = /\r\n|\r|\n/g;

/** Without an id, a reader that has received it resumes after an earlier event. */
export function eventOf(kind: "line" | "state" | "step" | "end", data: string, id?: string): string {
  const idField = id === undefined ? "" : `id: ${id}\n`;
  return `event: ${kind}\ndata: ${data.replace(LINE_BREAK, "\ndata: ")}\n${idField}\n`;
}

/** As one whole: the id that stands for all of them is that of the last one. */
export function lineEventsOf(lines: readonly string[], id: string): string {
  return lines
    .map((line, index) => eventOf("line", line, index === lines.length - 1 ? id : undefined))
    .join("");
}

export function formatPosition({ attempt, seq }: LogPosition): string {
  return `${attempt}.${seq}`;
}

/** Undefined if it is not valid. */
export function parsePosition(text: string): LogPosition | undefined {
  const match = /^(\d{1,9})\.(\d{1,15})$/.exec(text);
  return match ? { attempt: Number(match[1]), seq: Number(match[2]) } : undefined;
}

/** A client of the logs of the admin API. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { createParser } from "eventsource-parser";
import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import type { JobResult, LogSummary } from "../../../../src/shared/job.ts";
import { ADMIN_TOKEN, apiRequest } from "../../../support/blacktree/admin-api.ts";

export function logRequest(
  adminUrl: string,
  jobId: string,
  query = "",
  init?: RequestInit,
): Promise<Response> {
  return apiRequest(adminUrl, `/api/v1/jobs/${jobId}/logs${query}`, init);
}

/** As a job's result describes its log. */
export function describeLog(text: string): Omit<LogSummary, "truncated"> {
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { bytes: Buffer.byteLength(text), lines: text.split("\n").length - 1, sha256 };
}

export function logOf({ log }: JobResult): Omit<LogSummary, "truncated"> {
  return { bytes: log.bytes, lines: log.lines, sha256: log.sha256 };
}

/** Every event until the stream ends, or until `isLast`. */
export async function followedEvents(
  adminUrl: string,
  jobId: string,
  { after, isLast = () => false, query = "" }: FollowOptions = {},
): Promise<EventSourceMessage[]> {
  const headers: Record<string, string> = after === undefined ? {} : { "last-event-id": after };
  const response = await logRequest(adminUrl, jobId, `?follow=true${query}`, { headers });
  if (!response.ok || !response.body) throw new Error(`${response.status}: ${await response.text()}`);
  const events: EventSourceMessage[] = [];
  const parsed = response.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  for await (const event of parsed) {
    events.push(event);
    if (isLast(event, events)) break;
  }
  return events;
}

export interface StalledFollower {
  /** With the response's headers. */
  readonly receivedBytes: number;
  /** Every event of the log, from the beginning to its end. */
  readOn(): Promise<EventSourceMessage[]>;
}

/** A follower that reads nothing after the first bytes of the response, until `readOn`. */
export async function stalledFollower(adminUrl: string, jobId: string): Promise<StalledFollower> {
  const { hostname, port, host } = new URL(adminUrl);
  const socket = connect({ host: hostname, port: Number(port) });
  // HTTP/1.0: the connection's end is that of the response, which has no chunks.
  socket.write(
    `GET /api/v1/jobs/${jobId}/logs?follow=true HTTP/1.0\r\nhost: ${host}\r\nauthorization: Bearer ${ADMIN_TOKEN}\r\n\r\n`,
  );
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(socket, "data");
  socket.pause();
  return {
    get receivedBytes() {
      return socket.bytesRead;
    },
    async readOn() {
      const ended = once(socket, "end");
      socket.resume();
      await ended;
      const text = Buffer.concat(chunks).toString();
      const events: EventSourceMessage[] = [];
      const parser = createParser({ onEvent: (event) => void events.push(event) });
      parser.feed(text.slice(text.indexOf("\r\n\r\n") + 4));
      return events;
    },
  };
}

export interface FollowOptions {
  readonly after?: string;
  readonly isLast?: (event: EventSourceMessage, events: readonly EventSourceMessage[]) => boolean;
  readonly query?: string;
}

export function linesOf(events: readonly EventSourceMessage[]): string {
  return events.map(({ event, data }) => (event === "line" ? `${data}\n` : "")).join("");
}

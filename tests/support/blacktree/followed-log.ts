/** A job's log, followed as the admin API sends it: server-sent events. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import { apiRequest } from "./admin-api.ts";
import type { OrchestratorProcess } from "./deployment.ts";

export interface LogEvent {
  readonly kind: string;
  readonly text: string;
}

/** Ends when the orchestrator ends the stream. */
export async function* followedLog(
  { apiUrl }: Pick<OrchestratorProcess, "apiUrl">,
  jobId: string,
): AsyncGenerator<LogEvent> {
  const response = await apiRequest(apiUrl, `/api/v1/jobs/${jobId}/logs?follow=true`);
  if (!response.ok || !response.body)
    throw new Error(`the request for the log failed with status ${response.status}`);
  const texts = response.body.pipeThrough(new TextDecoderStream());
  for await (const { event = "", data } of texts.pipeThrough(new EventSourceParserStream())) {
    yield { kind: event, text: data };
  }
}

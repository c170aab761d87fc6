/** A job's log, followed as the admin API sends it: server-sent events. */
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
  const response = await fetch(`${apiUrl}/api/v1/jobs/${jobId}/logs?follow=true`);
  if (!response.ok || !response.body) throw new Error(`the log was refused with status ${response.status}`);
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + text).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) yield parsed(event);
  }
}

function parsed(event: string): LogEvent {
  const [, kind = ""] = /^event: (.*)$/m.exec(event) ?? [];
  const [, text = ""] = /^data: (.*)$/m.exec(event) ?? [];
  return { kind, text };
}

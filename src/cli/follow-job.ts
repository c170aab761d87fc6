/** Follows a job until it ends: states, build steps and log lines as they arrive, then the result. */

import { sleep } from "../shared/abort.ts";
import { Backoff } from "../shared/backoff.ts";
import type { JobResult } from "../shared/job.ts";
import type { JournalStep } from "../shared/log-journal.ts";
import { type ApiClient, ApiError } from "./api-client.ts";
import type { ShownJob } from "./job-view.ts";

export interface FollowSink {
  line(text: string): void;
  state(name: string): void;
  /** Not every orchestrator reports steps. */
  step(step: JournalStep): void;
}

/** In a row, without an event between them. The job continues without this client. */
const MAX_RECONNECTS = 30;

/**
 * @param query parameters of the log
 * @throws ApiError when the orchestrator remains unreachable, or does not know the job
 */
export async function followJob(
  api: ApiClient,
  jobId: string,
  sink: FollowSink,
  query = new URLSearchParams(),
): Promise<JobResult> {
  const path = `/api/v1/jobs/${encodeURIComponent(jobId)}`;
  const backoff = new Backoff({ initialMs: 200, maxMs: 2000 });
  query.set("follow", "true");
  let lastId: string | undefined;
  let isEnded = false;
  for (let reconnects = 0; ; reconnects += 1) {
    try {
      if (!isEnded) {
        for await (const { event, data, id } of api.events(`${path}/logs?${query}`, lastId)) {
          reconnects = 0;
          lastId = id ?? lastId;
          isEnded = event === "end";
          if (isEnded) break;
          report(sink, event, data);
        }
      }
      if (isEnded) {
        const { result } = await api.get<ShownJob>(path);
        if (result) return result;
        throw new ApiError(`job ${jobId} has ended, but its result is missing`, 404);
      }
    } catch (error) {
      if (!mayPass(error) || reconnects >= MAX_RECONNECTS) throw error;
    }
    await sleep(backoff.nextMs());
  }
}

function report(sink: FollowSink, event: string | undefined, data: string): void {
  if (event === "line") sink.line(data);
  else if (event === "state") sink.state(data);
  else if (event === "step") sink.step(JSON.parse(data) as JournalStep);
}

/** 429: too many clients of this machine follow logs, or one of them has sent wrong tokens. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  const { status } = error;
  return status === undefined || status === 429 || status >= 500;
}

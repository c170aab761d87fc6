/** Follows a job until it ends: states and log lines as they arrive, then the result. */

import { sleep } from "../shared/abort.ts";
import { Backoff } from "../shared/backoff.ts";
import type { JobResult } from "../shared/job.ts";
import { type ApiClient, ApiError } from "./api-client.ts";
import type { ShownJob } from "./job-view.ts";

export interface FollowSink {
  line(text: string): void;
  state(name: string): void;
}

/** In a row, without an event between them. The job continues without this client. */
const MAX_RECONNECTS = 30;

/** @throws ApiError when the orchestrator remains unreachable, or does not know the job. */
export async function followJob(api: ApiClient, jobId: string, sink: FollowSink): Promise<JobResult> {
  await followLog(api, jobId, sink);
  const { result } = await api.get<ShownJob>(`/api/v1/jobs/${encodeURIComponent(jobId)}`);
  if (!result) throw new ApiError(`job ${jobId} has ended, but its result is missing`);
  return result;
}

async function followLog(api: ApiClient, jobId: string, sink: FollowSink): Promise<void> {
  const backoff = new Backoff({ initialMs: 200, maxMs: 2000 });
  const path = `/api/v1/jobs/${encodeURIComponent(jobId)}/logs?follow=true`;
  let lastId: string | undefined;
  for (let reconnects = 0; ; reconnects += 1) {
    try {
      for await (const { event, data, id } of api.events(path, lastId)) {
        reconnects = 0;
        lastId = id;
        if (event === "end") return;
        if (event === "line") sink.line(data);
        else if (event === "state") sink.state(data);
      }
    } catch (error) {
      if (!mayPass(error) || reconnects >= MAX_RECONNECTS) throw error;
    }
    await sleep(backoff.nextMs());
  }
}

/** 429: too many clients of this machine follow logs, or one of them has sent wrong tokens. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  const { status } = error;
  return status === undefined || status === 429 || status >= 500;
}

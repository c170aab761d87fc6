/** Follows a job until it ends: states, build steps and log lines as they arrive, then the result. */
import type { JobResult } from "../shared/job.ts";
import type { JournalStep } from "../shared/log-journal.ts";
import type { ApiClient } from "./api/client.ts";
import { ApiError } from "./api/error.ts";
import { ABOUT_A_MINUTE, Patience, type PatienceBounds } from "./api/patience.ts";
import { JOB } from "./api/shapes.ts";
import type { ShownJob } from "./job-view.ts";

export interface FollowSink {
  line(text: string): void;
  state(name: string): void;
  /** Not every orchestrator reports steps. */
  step(step: JournalStep): void;
}

export interface FollowBounds extends PatienceBounds {
  /** A stream that was open for this long, and ends without a reason, is not a failure: proxies end silent ones. */
  readonly stableMs: number;
}

const BOUNDS: FollowBounds = { ...ABOUT_A_MINUTE, stableMs: 5000 };

/**
 * @param query parameters of the log
 * @throws ApiError when the log cannot be read for too long, or the orchestrator does not know the job. The job
 * continues.
 */
export async function followJob(
  api: ApiClient,
  jobId: string,
  sink: FollowSink,
  query = new URLSearchParams(),
  bounds = BOUNDS,
): Promise<JobResult> {
  const path = pathOf(jobId);
  const patience = new Patience(bounds);
  query.set("follow", "true");
  let lastId: string | undefined;
  let isEnded = false;
  for (;;) {
    let comment: string | undefined;
    let openedMs = Number.POSITIVE_INFINITY;
    const onComment = (text: string) => {
      comment = text.trim();
      openedMs = Math.min(openedMs, performance.now());
    };
    try {
      if (!isEnded) {
        for await (const { event, data, id } of api.events(`${path}/logs?${query}`, lastId, onComment)) {
          patience.succeeded();
          lastId = id ?? lastId;
          isEnded = event === "end";
          if (isEnded) break;
          report(sink, event, data);
        }
      }
      if (isEnded) {
        const result = await resultOf(api, jobId);
        if (result) return result;
        throw new ApiError(`job ${jobId} has ended, but its result is missing`, 404);
      }
      throw new ApiError(describeEnd(jobId, comment));
    } catch (error) {
      if (comment === OPENED && performance.now() - openedMs >= bounds.stableMs) patience.succeeded();
      await patience.failed(error);
    }
  }
}

/** Null while it has none. @throws ApiError */
export async function resultOf(api: ApiClient, jobId: string): Promise<JobResult | null> {
  return (await api.get<ShownJob>(pathOf(jobId), JOB)).result;
}

function pathOf(jobId: string): string {
  return `/api/v1/jobs/${encodeURIComponent(jobId)}`;
}

/** The orchestrator's comment at the beginning of each stream. */
const OPENED = "following";

/** An orchestrator that cannot read the log at present says why in a comment, and ends the stream. */
function describeEnd(jobId: string, comment: string | undefined): string {
  const reason = comment === undefined || comment === OPENED ? "the server ends the stream" : comment;
  return `the log of job ${jobId} breaks off: ${reason}`;
}

function report(sink: FollowSink, event: string | undefined, data: string): void {
  if (event === "line") sink.line(data);
  else if (event === "state") sink.state(data);
  else if (event === "step") sink.step(JSON.parse(data) as JournalStep);
}

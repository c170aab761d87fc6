/** Requests that make a job with an id that the client has chosen: repeated, they start no second job. */
import type { ApiClient } from "./api/client.ts";
import { ApiError } from "./api/error.ts";
import { NEW_JOB } from "./api/shapes.ts";

interface NewJob {
  readonly jobId: string;
  readonly path: string;
  readonly body: string;
  flagOf(field: string): string | undefined;
}

/** @throws ApiError, which names the id if the job may exist. */
export async function sendJob(api: ApiClient, { jobId, path, body, flagOf }: NewJob): Promise<void> {
  try {
    await api.post(path, body, NEW_JOB);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const described = error.withFlags(flagOf);
    if (!described.mayHaveActed) throw described;
    throw described.withAdvice(
      `the job may have been accepted as ${jobId}: blacktree job ${jobId} shows it if it was; the same command with --job-id ${jobId} submits it again, and starts no second build`,
    );
  }
}

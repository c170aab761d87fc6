/** The build steps of a job: those of its record, or while it runs, those that its worker reports. */
import { z } from "zod";
import type { JournalStep } from "../../shared/log-journal.ts";
import { RpcError } from "../../shared/rpc/status.ts";
import { type Leases, LeasesUnavailable } from "../leases/leases.ts";
import type { JobRecord } from "../records/job-records.ts";
import type { WorkerClient } from "../workers/worker-client.ts";

const STEP = z
  .object({
    number: z.int().meta({ description: "As in the step's log lines: `#<number> …`." }),
    name: z.string(),
    started_at: z.iso.datetime(),
    ended_at: z.iso.datetime().nullable().meta({ description: "Null while the step runs." }),
    duration_ms: z.int().nullable(),
    cached: z.boolean().meta({ description: "The result of an earlier build was used." }),
    error: z.string().nullable(),
  })
  .meta({ id: "BuildStep" });

export const STEPS = z.array(STEP).nullable().meta({
  description:
    "Of the attempt that runs, or whose outcome is the result; at most 500. Null if they are not known, since the worker does not answer or was lost.",
});

export interface StepSources {
  readonly leases: Pick<Leases, "find">;
  connect(address: string): Pick<WorkerClient, "describeRun" | "close">;
}

export async function shownSteps(sources: StepSources, record: JobRecord): Promise<z.infer<typeof STEPS>> {
  const steps = record.result ? recordedSteps(record) : await runningSteps(sources, record.jobId);
  return steps?.map(shownStep) ?? null;
}

/** A job that ended without a run has no steps. */
function recordedSteps({ steps, result }: JobRecord): readonly JournalStep[] | undefined {
  return steps ?? (result?.worker_id == null ? [] : undefined);
}

async function runningSteps(
  { leases, connect }: StepSources,
  jobId: string,
): Promise<readonly JournalStep[] | undefined> {
  try {
    const claim = await leases.find(jobId);
    if (!claim) return [];
    const client = connect(claim.address);
    return await client.describeRun(claim, claim.incarnation).finally(() => client.close());
  } catch (error) {
    if (error instanceof LeasesUnavailable || error instanceof RpcError) return undefined;
    throw error;
  }
}

function shownStep({ number, name, started_at, ended_at, duration_ms, cached, error }: JournalStep) {
  return {
    number,
    name,
    started_at,
    ended_at: ended_at ?? null,
    duration_ms: duration_ms ?? null,
    cached: cached ?? false,
    error: error ?? null,
  };
}

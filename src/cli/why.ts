/** `blacktree why ID`: why a job does not run yet. */
import { EXIT } from "../shared/settings/command-line.ts";
import { WAITING } from "./api/shapes.ts";
import { withJob } from "./job-id.ts";
import { printJson, printText } from "./stdout.ts";
import { tableOf } from "./terminal/table.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

/** Response of `GET /api/v1/jobs/:id/waiting`. */
export interface ShownWaiting {
  readonly job_id: string;
  readonly state: string;
  readonly is_waiting: boolean;
  readonly reason: string;
  readonly jobs_before: number | null;
  readonly workers: readonly {
    readonly id: string;
    readonly region: string;
    readonly status: string;
    readonly reason: string;
  }[];
  readonly estimate_ms: number | null;
}

export const whyCommand: MakeCommand = (environment, finish) =>
  apiCommand("why", environment)
    .description("say why a job does not run yet")
    .argument("<id>", "the job's id, or the beginning of it")
    .addHelpText(
      "after",
      `
Examples:
  blacktree why 4b1f2c9e
  blacktree why web-42 --json | jq '.workers[].reason'`,
    )
    .action(async (given: string, options: ApiOptions) => {
      const api = apiClient(options, environment);
      const waiting = await withJob(api, given, (id) =>
        api.get<ShownWaiting>(`/api/v1/jobs/${encodeURIComponent(id)}/waiting`, WAITING),
      );
      if (options.json) printJson(waiting);
      else printText(describeWaiting(waiting));
      finish(EXIT.done);
    });

export function describeWaiting({ job_id, state, reason, workers, estimate_ms }: ShownWaiting): string {
  const estimate = estimate_ms ? `It should start in about ${Math.ceil(estimate_ms / 1000)} s.` : undefined;
  const rows = workers.map((worker) => [worker.id, worker.region, worker.status, worker.reason]);
  const table = rows.length > 0 ? tableOf(["WORKER", "REGION", "STATUS", "WHY NOT"], rows) : undefined;
  return [`${job_id} is ${state}: ${reason}`, estimate, table]
    .filter((part) => part !== undefined)
    .join("\n");
}

import type { JobState } from "../shared/job.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import type { ApiClient } from "./api/client.ts";
import { poll } from "./api/patience.ts";
import { CANCELLED_JOB } from "./api/shapes.ts";
import { resultOf } from "./follow-job.ts";
import { describeResult } from "./job-view.ts";
import { printJson, printText } from "./stdout.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

interface CancelOptions extends ApiOptions {
  readonly reason?: string;
  readonly wait?: true;
}

interface CancelAnswer {
  readonly job_id: string;
  readonly state: JobState;
}

const POLL_INTERVAL_MS = 200;

export const cancelCommand: MakeCommand = (environment, finish) =>
  apiCommand("cancel", environment)
    .description("cancel a waiting or running job")
    .argument("<id>", "the job's id")
    .option("--reason <text>", "shown in the job's log and result")
    .option("--wait", "wait until the job ends, and exit 0 only if it was cancelled")
    .addHelpText(
      "after",
      `
Examples:
  blacktree cancel web-42
  blacktree cancel web-42 --wait --reason "wrong branch"`,
    )
    .action(async (id: string, options: CancelOptions) =>
      finish(await cancel(apiClient(options, environment), id, options)),
    );

async function cancel(api: ApiClient, id: string, options: CancelOptions): Promise<ExitStatus> {
  const path = `/api/v1/jobs/${encodeURIComponent(id)}/cancel`;
  const order = JSON.stringify({ reason: options.reason });
  const answer = await api.post<CancelAnswer>(path, order, CANCELLED_JOB);
  if (!options.wait) {
    if (options.json) printJson(answer);
    else if (answer.state === "CANCELLED") printText(`${id} is cancelled`);
    else printText(`${id} is ${answer.state}, and is being cancelled`);
    return EXIT.done;
  }
  const result = await poll(async () => (await resultOf(api, id)) ?? undefined, POLL_INTERVAL_MS);
  if (options.json) printJson(result);
  else printText(describeResult(result));
  return result.status === "CANCELLED" ? EXIT.done : EXIT.failed;
}

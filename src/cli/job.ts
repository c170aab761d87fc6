/** `blacktree job ID`: one job, its events and steps so far, and its result when it has one. */
import { EXIT } from "../shared/settings/command-line.ts";
import { JOB } from "./api/shapes.ts";
import { withJob } from "./job-id.ts";
import { describeJob, type ShownJob } from "./job-view.ts";
import { printJson, printText } from "./stdout.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

export const jobCommand: MakeCommand = (environment, finish) =>
  apiCommand("job", environment)
    .description("show one job: its fields, events, build steps and result")
    .argument("<id>", "the job's id, or the beginning of it")
    .addHelpText(
      "after",
      `
Examples:
  blacktree job 4b1f2c9e
  blacktree job web-42 --json | jq .result.image_digest`,
    )
    .action(async (given: string, options: ApiOptions) => {
      const api = apiClient(options, environment);
      const job = await withJob(api, given, (id) =>
        api.get<ShownJob>(`/api/v1/jobs/${encodeURIComponent(id)}`, JOB),
      );
      if (options.json) printJson(job);
      else printText(describeJob(job));
      finish(EXIT.done);
    });

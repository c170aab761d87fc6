/** `blacktree job ID`: one job, its events so far, and its result when it has one. */
import { EXIT } from "../shared/settings/command-line.ts";
import { describeJob, type ShownJob } from "./job-view.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand, printJson, printText } from "./usage.ts";

export const jobCommand: MakeCommand = (environment, finish) =>
  apiCommand("job", environment)
    .description("show one job")
    .argument("<id>", "the job's id")
    .action(async (id: string, options: ApiOptions) => {
      const job = await apiClient(options, environment).get<ShownJob>(
        `/api/v1/jobs/${encodeURIComponent(id)}`,
      );
      if (options.json) printJson(job);
      else printText(describeJob(job));
      finish(EXIT.done);
    });

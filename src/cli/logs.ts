/** `blacktree logs ID`: prints the log of a job; with -f, follows it. */
import { isReaderGone } from "../shared/poll.ts";
import { EXIT } from "../shared/settings/command-line.ts";
import { followJob } from "./follow-job.ts";
import type { ShownJob } from "./job-view.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand, printJson, printText } from "./usage.ts";
import { WrongUsage } from "./wrong-usage.ts";

const STDOUT = 1;

interface LogsOptions extends ApiOptions {
  readonly follow?: true;
}

export const logsCommand: MakeCommand = (environment, finish) =>
  apiCommand("logs", environment)
    .description("show the end of the log of a finished job, or follow a running job")
    .argument("<id>", "the job's id")
    .option("-f, --follow", "follow the log until the job ends")
    .action(async (id: string, options: LogsOptions) => {
      const api = apiClient(options, environment);
      const print = (line: string) => {
        if (options.json) printJson({ line });
        else printText(line);
        // As `blacktree logs -f ID | head -1`: nothing reads the lines that follow.
        if (isReaderGone(STDOUT)) process.exit(EXIT.failed);
      };
      if (options.follow) await followJob(api, id, { line: print, state: () => undefined });
      else for (const line of await endedLog(api, id)) print(line);
      finish(EXIT.done);
    });

async function endedLog(api: ReturnType<typeof apiClient>, id: string): Promise<readonly string[]> {
  const { result } = await api.get<ShownJob>(`/api/v1/jobs/${encodeURIComponent(id)}`);
  if (result) return result.logs;
  throw new WrongUsage(`job ${id} has not ended; follow its log with -f`);
}

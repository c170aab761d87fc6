/** `blacktree workers`: lists the known workers, one per line. */
import { EXIT } from "../shared/settings/command-line.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand, printJson } from "./usage.ts";

interface ShownWorker {
  readonly id: string;
  readonly region: string;
  readonly address: string;
  readonly status: string;
  readonly refusal: string | null;
  readonly jobs: readonly string[];
  readonly last_seen: string;
}

export const workersCommand: MakeCommand = (environment, finish) =>
  apiCommand("workers", environment)
    .description("list the workers")
    .action(async (options: ApiOptions) => {
      const { items } = await apiClient(options, environment).get<{ items: ShownWorker[] }>(
        "/api/v1/workers",
      );
      if (options.json) printJson(items);
      else for (const worker of items) console.log(lineOf(worker));
      finish(EXIT.done);
    });

function lineOf({ id, region, address, status, refusal, jobs, last_seen }: ShownWorker): string {
  return [id, region, address, status, last_seen, jobs.join(","), refusal ?? ""].join("  ").trimEnd();
}

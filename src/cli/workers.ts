/** `blacktree workers`: lists the known workers, one per line. */
import { EXIT } from "../shared/settings/command-line.ts";
import { tableOf } from "./table.ts";
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
      else console.log(describeWorkers(items));
      finish(EXIT.done);
    });

const NONE = `no workers are registered. A worker registers when it reaches this orchestrator (BLACKTREE_ORCHESTRATOR_ADDR)
and has a working Docker or BuildKit. Its log says what it waits for: journalctl -u 'blacktree-worker@*'`;

const HEADINGS = ["ID", "REGION", "ADDRESS", "STATUS", "LAST SEEN", "JOBS", "REFUSES JOBS BECAUSE"];

/** @returns a table with headings, or why there are none. */
export function describeWorkers(workers: readonly ShownWorker[]): string {
  if (workers.length === 0) return NONE;
  const rows = workers.map(({ id, region, address, status, last_seen, jobs, refusal }) => [
    ...[id, region, address, status, last_seen, jobs.join(",")],
    refusal ?? "",
  ]);
  return tableOf(HEADINGS, rows);
}

/** `blacktree workers`: lists the known workers, one per line. */
import { describeControl } from "../orchestrator/leases/control.ts";
import { EXIT } from "../shared/settings/command-line.ts";
import { WORKERS } from "./api/shapes.ts";
import type { ShownControl } from "./operator-order.ts";
import { printJson, printText } from "./stdout.ts";
import { tableOf } from "./terminal/table.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

export interface ShownWorker {
  readonly id: string;
  readonly region: string;
  readonly address: string;
  readonly status: string;
  readonly refusal: string | null;
  readonly control: ShownControl | null;
  readonly jobs: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly last_seen: string;
}

interface WorkersOptions extends ApiOptions {
  readonly region?: string;
  readonly status?: string;
  readonly label: readonly string[];
}

export const workersCommand: MakeCommand = (environment, finish) =>
  apiCommand("workers", environment)
    .description("list the workers")
    .option("--region <name>", "only workers of this region")
    .option("--status <status>", "only workers that are FREE, BUSY, DRAINING or LOST; comma separated")
    .option(
      "--label <key=value>",
      "only workers with this label; can be repeated",
      (label: string, earlier: readonly string[]) => [...earlier, label],
      [],
    )
    .addHelpText(
      "after",
      `
Examples:
  blacktree workers --region us-east-1 --status FREE,BUSY
  blacktree workers --label disk=nvme --json | jq -r '.[].id'`,
    )
    .action(async (options: WorkersOptions) => {
      const query = queryOf(options);
      const { items } = await apiClient(options, environment).get<{ items: ShownWorker[] }>(
        `/api/v1/workers${query}`,
        WORKERS,
      );
      if (options.json) printJson(items);
      else printText(items.length === 0 && query !== "" ? "no worker matches" : describeWorkers(items));
      finish(EXIT.done);
    });

function queryOf({ region, status, label }: WorkersOptions): string {
  const query = new URLSearchParams(label.map((each): [string, string] => ["label", each]));
  if (region !== undefined) query.set("region", region);
  if (status !== undefined) query.set("status", status.toUpperCase());
  return query.size === 0 ? "" : `?${query}`;
}

const NONE = `no workers are registered. A worker registers when it reaches this orchestrator (BLACKTREE_ORCHESTRATOR_ADDR)
and has a working Docker or BuildKit. Its log says what it waits for: journalctl -u 'blacktree-worker@*'`;

const HEADINGS = ["ID", "REGION", "ADDRESS", "STATUS", "LAST SEEN", "JOBS"];

/** @returns a table with headings, or why there are none. */
export function describeWorkers(workers: readonly ShownWorker[]): string {
  if (workers.length === 0) return NONE;
  const hasLabels = workers.some(({ labels }) => Object.keys(labels).length > 0);
  const rows = workers.map((worker) => {
    const { id, region, address, status, last_seen, jobs, labels } = worker;
    const cells = [id, region, address, status, last_seen, jobs.join(",")];
    return [...cells, ...(hasLabels ? [describeLabels(labels)] : []), whyNoJobs(worker)];
  });
  return tableOf([...HEADINGS, ...(hasLabels ? ["LABELS"] : []), "REFUSES JOBS BECAUSE"], rows);
}

function describeLabels(labels: ShownWorker["labels"]): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

function whyNoJobs({ refusal, control, region }: ShownWorker): string {
  if (control?.scope === "region") return `region ${region} is ${describeControl(control)}`;
  if (control?.kind === "drained") return describeControl(control);
  // A lost worker that is paused has no refusal.
  return refusal ?? (control ? describeControl(control) : "");
}

/** `blacktree regions`: the known worker regions. */
import { describeControl } from "../orchestrator/leases/control.ts";
import { EXIT } from "../shared/settings/command-line.ts";
import { REGIONS } from "./api/shapes.ts";
import type { ShownControl } from "./operator-order.ts";
import { printJson, printText } from "./stdout.ts";
import { tableOf } from "./terminal/table.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

export interface ShownRegion {
  readonly region: string;
  readonly workers: Readonly<Record<string, number>>;
  readonly slots: { readonly total: number; readonly free: number };
  readonly jobs: readonly string[];
  readonly control: ShownControl | null;
}

export const regionsCommand: MakeCommand = (environment, finish) =>
  apiCommand("regions", environment)
    .description("list the worker regions, with their workers, slots and jobs")
    .addHelpText("after", "\nExamples:\n  blacktree regions\n  blacktree regions --json | jq '.[].slots'")
    .action(async (options: ApiOptions) => {
      const { items } = await apiClient(options, environment).get<{ items: ShownRegion[] }>(
        "/api/v1/regions",
        REGIONS,
      );
      if (options.json) printJson(items);
      else printText(describeRegions(items));
      finish(EXIT.done);
    });

const HEADINGS = ["REGION", "WORKERS", "SLOTS", "FREE", "JOBS", "OUT OF SERVICE"];

/** The orchestrator's own region is always known. */
export function describeRegions(regions: readonly ShownRegion[]): string {
  const rows = regions.map(({ region, workers, slots, jobs, control }) => [
    ...[region, describeWorkers(workers), String(slots.total), String(slots.free), String(jobs.length)],
    control ? `${describeControl(control)} (since ${control.since})` : "",
  ]);
  return tableOf(HEADINGS, rows);
}

function describeWorkers(workers: ShownRegion["workers"]): string {
  const counts = Object.entries(workers).filter(([, count]) => count > 0);
  return counts.map(([status, count]) => `${count} ${status}`).join(", ") || "none";
}

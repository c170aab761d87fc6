/** `blacktree status`: the orchestrator, its servers, and how many workers there are. */
import { EXIT } from "../shared/settings/command-line.ts";
import { STATUS } from "./api/shapes.ts";
import { printJson, printText } from "./stdout.ts";
import { shownTime } from "./terminal/times.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

/** Response of `GET /api/v1/status`. */
export interface ShownStatus {
  readonly version: string;
  readonly commit: string;
  readonly region: string;
  readonly started_at: string;
  readonly connected: Readonly<Record<string, boolean>>;
  /** Their number by status; null while the leases do not answer. */
  readonly workers: Readonly<Record<string, number>> | null;
}

export const statusCommand: MakeCommand = (environment, finish) =>
  apiCommand("status", environment)
    .description("show the orchestrator, its servers, and the number of workers")
    .addHelpText(
      "after",
      `
Examples:
  blacktree status
  blacktree status --api http://orchestrator-2:8080 --json | jq .connected`,
    )
    .action(async (options: ApiOptions) => {
      const status = await apiClient(options, environment).get<ShownStatus>("/api/v1/status", STATUS);
      if (options.json) printJson(status);
      else printText(describeStatus(status));
      finish(EXIT.done);
    });

export function describeStatus({
  version,
  commit,
  region,
  started_at,
  connected,
  workers,
}: ShownStatus): string {
  const servers = Object.entries(connected).map(
    ([name, isConnected]) => `${name} ${isConnected ? "connected" : "NOT CONNECTED"}`,
  );
  const counts = Object.entries(workers ?? {}).filter(([, count]) => count > 0);
  const fleet = counts.map(([status, count]) => `${count} ${status}`).join(", ") || "none";
  return [
    `orchestrator  ${version} (${commit}) of ${region}, since ${shownTime(started_at)}`,
    `servers       ${servers.join(", ")}`,
    `workers       ${workers === null ? "unknown" : fleet}`,
  ].join("\n");
}

/** What the commands share: where the API is, what a command is made of, how it fails. */
import { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import type { ExitStatus } from "../shared/settings/command-line.ts";
import { ApiClient } from "./api-client.ts";

/** Flags or files that cannot be meant; ends with status 2. */
export class WrongUsage extends Error {
  override readonly name = "WrongUsage";
}

/** Makes a command; its action tells `finish` how it ended. */
export type MakeCommand = (environment: Environment, finish: (status: ExitStatus) => void) => Command;

export interface ApiOptions {
  readonly api: string;
  readonly json?: true;
}

const DEFAULT_API = "http://127.0.0.1:8080";

export function apiCommand(name: string, environment: Environment): Command {
  return new Command(name)
    .option(
      "--api <url>",
      "the orchestrator's admin API (BLACKTREE_API)",
      environment.BLACKTREE_API || DEFAULT_API,
    )
    .option("--json", "print JSON");
}

/** The token comes from the environment alone: an argument list is everybody's to read. */
export function apiClient(options: ApiOptions, environment: Environment): ApiClient {
  if (!/^https?:\/\//.test(options.api) || !URL.canParse(options.api)) {
    throw new WrongUsage(
      `--api ${JSON.stringify(options.api)}: expected a URL that starts with http:// or https://`,
    );
  }
  return new ApiClient({ url: options.api, token: environment.BLACKTREE_ADMIN_TOKEN || undefined });
}

export function printJson(value: unknown): void {
  console.log(JSON.stringify(value));
}

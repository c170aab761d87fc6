/** Shared by the commands: settings of the API, construction of commands, usage errors. */
import { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import type { ExitStatus } from "../shared/settings/command-line.ts";
import { toVisibleJson, withVisibleCharacters } from "../shared/visible-text.ts";
import { ApiClient } from "./api-client.ts";

/** Invalid flags or files; the program ends with status 2. */
export class WrongUsage extends Error {
  override readonly name = "WrongUsage";
}

/** Makes a command, whose action passes its exit status to `finish`. */
export type MakeCommand = (environment: Environment, finish: (status: ExitStatus) => void) => Command;

export interface ApiOptions {
  readonly api: string;
  readonly json?: true;
}

/** Settings of the commands that call the admin API. Secrets have no flag: other users can read an argument list. */
export const API_SETTINGS = {
  url: {
    name: "BLACKTREE_API",
    flag: "--api",
    description: "URL of the orchestrator's admin API",
    fallback: "http://127.0.0.1:8080",
  },
  token: { name: "BLACKTREE_ADMIN_TOKEN", description: "bearer token for the admin API" },
  gitToken: { name: "BLACKTREE_GIT_TOKEN", description: "submit: the job's git_token" },
} as const;

export function apiCommand(name: string, environment: Environment): Command {
  const { url } = API_SETTINGS;
  return new Command(name)
    .option(`${url.flag} <url>`, `${url.description} (${url.name})`, environment[url.name] || url.fallback)
    .option("--json", "print JSON");
}

export function apiClient(options: ApiOptions, environment: Environment): ApiClient {
  if (!/^https?:\/\//.test(options.api) || !URL.canParse(options.api)) {
    throw new WrongUsage(
      `--api ${JSON.stringify(options.api)}: expected a URL that starts with http:// or https://`,
    );
  }
  return new ApiClient({ url: options.api, token: environment[API_SETTINGS.token.name] || undefined });
}

export function printJson(value: unknown): void {
  console.log(toVisibleJson(value));
}

/** A repository chooses parts of the text. */
export function printText(text: string): void {
  console.log(withVisibleCharacters(text));
}

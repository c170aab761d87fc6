/** Shared by the commands: settings of the API, construction of commands, usage errors. */
import { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import { ADMIN_TOKEN, ADMIN_TOKEN_FILE, INSTALLED_TOKEN_FILE } from "../shared/settings/admin-token.ts";
import { type ExitStatus, refuseFlagOf } from "../shared/settings/command-line.ts";
import { maskUrlPasswords } from "../shared/settings/settings.ts";
import { ApiClient } from "./api/client.ts";
import { apiToken } from "./api-token.ts";
import { WrongUsage } from "./wrong-usage.ts";

/** Makes a command, whose action passes its exit status to `finish`. */
export type MakeCommand = (environment: Environment, finish: (status: ExitStatus) => void) => Command;

export interface ApiOptions {
  readonly api: string;
  readonly tokenFile?: string;
  readonly json?: true;
}

/** Settings of the commands that call the admin API. Secrets have no flag: other users can read an argument list. */
export const API_SETTINGS = {
  url: {
    name: "BLACKTREE_API",
    flag: "--api",
    description:
      "URL of the orchestrator's admin API; of several, comma separated, the first that answers is used",
    fallback: "http://127.0.0.1:8080",
  },
  token: { name: ADMIN_TOKEN, description: "bearer token for the admin API" },
  tokenFile: {
    name: ADMIN_TOKEN_FILE,
    flag: "--token-file",
    description: "file that contains this token instead",
    computedDefault: `for an API on this machine, the file of install.sh (${INSTALLED_TOKEN_FILE}), else that of up`,
  },
  gitToken: { name: "BLACKTREE_GIT_TOKEN", description: "submit and retry: the job's git_token" },
} as const;

export function apiCommand(name: string, environment: Environment): Command {
  const { url, token, tokenFile, gitToken } = API_SETTINGS;
  const command = new Command(name);
  for (const secret of [token, gitToken]) refuseFlagOf(command, secret.name);
  return command
    .option(`${url.flag} <url>`, `${url.description} (${url.name})`, environment[url.name] || url.fallback)
    .option(
      `${tokenFile.flag} <path>`,
      `${tokenFile.description} (${tokenFile.name}; default: ${tokenFile.computedDefault})`,
    )
    .option("--json", "print JSON");
}

/** @param limitMs of a request, for all addresses together */
export function apiClient(options: ApiOptions, environment: Environment, limitMs?: number): ApiClient {
  const { tokenFile } = options;
  const addresses = options.api.split(",").map((each) => {
    const url = each.trim();
    if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
      throw new WrongUsage(
        `--api ${JSON.stringify(maskUrlPasswords(options.api))}: expected a URL that starts with http:// or https://`,
      );
    }
    return { url, ...apiToken({ api: url, tokenFile, environment }) };
  });
  return new ApiClient(addresses, limitMs === undefined ? undefined : limitMs / addresses.length);
}

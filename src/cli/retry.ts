/** `blacktree retry ID`: makes a new job from the message of an ended one, and with --wait follows it until it ends. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Environment } from "../shared/env.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import {
  API_SETTINGS,
  type ApiOptions,
  apiClient,
  apiCommand,
  type MakeCommand,
  printJson,
} from "./usage.ts";
import { waitForJob } from "./wait-for-job.ts";
import { WrongUsage } from "./wrong-usage.ts";

interface RetryOptions extends ApiOptions {
  readonly jobId?: string;
  readonly file?: string;
  readonly wait?: true;
}

const HELP = `
Secrets are not stored, so those that the job had are sent again: git_token from ${API_SETTINGS.gitToken.name}, all of them from the
file, none from a flag. Example of a file: {"git_token": "…", "secrets": {"npm": "…"}}`;

export const retryCommand: MakeCommand = (environment, finish) =>
  apiCommand("retry", environment)
    .description("retry an ended job: the same request again, as a new job")
    .argument("<id>", "id of the ended job")
    .option("--job-id <id>", "id of the new job instead of a generated one (job_id)")
    .option("--file <path>", "file with git_token, secrets and registry_auths as JSON, - for standard input")
    .option("--wait", "follow the log, and exit 0 only on SUCCESS")
    .addHelpText("after", HELP)
    .action(async (id: string, options: RetryOptions) => finish(await retry(id, options, environment)));

async function retry(id: string, options: RetryOptions, environment: Environment): Promise<ExitStatus> {
  const api = apiClient(options, environment);
  const token = environment[API_SETTINGS.gitToken.name];
  const secrets = options.file === undefined ? {} : readSecrets(options.file);
  const request = {
    ...(token ? { git_token: token } : {}),
    ...secrets,
    ...(options.jobId !== undefined && { job_id: options.jobId }),
  };
  // With an id the request can be repeated.
  const jobId = request.job_id ?? randomUUID();
  const body = JSON.stringify({ ...request, job_id: jobId });
  const submit = async () => {
    await api.post(`/api/v1/jobs/${encodeURIComponent(id)}/retry`, body);
  };
  const isJson = options.json ?? false;
  if (options.wait) return waitForJob({ api, jobId: String(jobId), submit, isJson, environment });
  await submit();
  if (isJson) printJson({ job_id: jobId, retry_of: id });
  else console.log(jobId);
  return EXIT.done;
}

/** No message shows the content: it consists of secrets. */
function readSecrets(path: string): { readonly job_id?: unknown } {
  const expected = "expected git_token, secrets and registry_auths as a JSON object";
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path === "-" ? 0 : path, "utf8"));
  } catch (error) {
    const reason =
      error instanceof SyntaxError
        ? "is not JSON"
        : `cannot be read (${(error as NodeJS.ErrnoException).code})`;
    throw new WrongUsage(`--file ${path} ${reason}; ${expected}`);
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed;
  throw new WrongUsage(`--file ${path} does not contain a JSON object; ${expected}`);
}

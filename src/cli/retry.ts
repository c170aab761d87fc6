/** `blacktree retry ID`: makes a new job from the message of an ended one, and with --wait follows it until it ends. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import { readJobFile } from "./json-file.ts";
import { addSecretFlags, SECRET_FLAGS, secretFields } from "./secret-flags.ts";
import { sendJob } from "./send-job.ts";
import { printJson, printText } from "./stdout.ts";
import { API_SETTINGS, type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";
import { waitForJob } from "./wait-for-job.ts";

interface RetryOptions extends ApiOptions {
  readonly jobId?: string;
  readonly file?: string;
  readonly wait?: true;
}

const HELP = `
Secrets are not stored, so those that the job had are sent again: from ${API_SETTINGS.gitToken.name}, the flags for secrets, or the file,
such as {"git_token": "…", "secrets": {"npm": "…"}}.

Examples:
  blacktree retry 4b1f2c9e-6f0e-4d0c-8f55-0d8a4a1c7a11 --wait
  blacktree retry web-42 --secret id=npm,env=NPM_TOKEN`;

const SECRETS = "git_token, secrets and registry_auths";

const FLAGS = new Map<string, string>([
  ["job_id", "--job-id"],
  ...SECRET_FLAGS.map(([flag, field]) => [field, flag] as const),
]);

export const retryCommand: MakeCommand = (environment, finish) => {
  const command = apiCommand("retry", environment)
    .description("retry an ended job: the same request again, as a new job")
    .argument("<id>", "id of the ended job")
    .option("--job-id <id>", "id of the new job instead of a generated one (job_id)")
    .option("--file <path>", "file with git_token, secrets and registry_auths as JSON, - for standard input")
    .option("--wait", "follow the log, and exit 0 only on SUCCESS")
    .optionsGroup("Secrets of the job:")
    .addHelpText("after", HELP);
  addSecretFlags(command);
  return command.action(async (id: string, options: RetryOptions) =>
    finish(await retry(id, options, command, environment)),
  );
};

async function retry(
  id: string,
  options: RetryOptions,
  command: Command,
  environment: Environment,
): Promise<ExitStatus> {
  const api = apiClient(options, environment);
  const token = environment[API_SETTINGS.gitToken.name];
  const fromFile = options.file === undefined ? {} : await readJobFile(options.file, SECRETS);
  const request = {
    ...(token ? { git_token: token } : {}),
    ...fromFile,
    ...secretFields(command, fromFile, environment),
    ...(options.jobId !== undefined && { job_id: options.jobId }),
  };
  // With an id the request can be repeated.
  const newId = request.job_id ?? randomUUID();
  const jobId = String(newId);
  const body = JSON.stringify({ ...request, job_id: newId });
  const path = `/api/v1/jobs/${encodeURIComponent(id)}/retry`;
  const submit = () => sendJob(api, { jobId, path, body, flagOf: (field) => FLAGS.get(field) });
  const isJson = options.json ?? false;
  if (options.wait) return waitForJob({ api, jobId, submit, isJson, environment });
  await submit();
  if (isJson) printJson({ job_id: jobId, retry_of: id });
  else printText(jobId);
  return EXIT.done;
}

/** `blacktree submit`: submits a job, and with --wait follows it until it ends. */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import { guessJob } from "./checkout.ts";
import { addFieldFlags, FIELD_FLAGS, flaggedFields, type JobMessage } from "./job-flags.ts";
import { readJobFile } from "./json-file.ts";
import { addSecretFlags, SECRET_FLAGS, secretFields } from "./secret-flags.ts";
import { sendJob } from "./send-job.ts";
import { printJson, printText } from "./stdout.ts";
import { API_SETTINGS, type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";
import { waitForJob } from "./wait-for-job.ts";
import { WrongUsage } from "./wrong-usage.ts";

interface SubmitOptions extends ApiOptions {
  readonly file?: string;
  readonly wait?: true;
  readonly guess: boolean;
}

export const submitCommand: MakeCommand = (environment, finish) => {
  const command = apiCommand("submit", environment)
    .description("submit a job")
    .optionsGroup("The job:")
    .option("--file <path>", "file with the job as JSON, - for standard input; flags override its fields");
  addFieldFlags(command);
  command.optionsGroup("Secrets of the job:");
  addSecretFlags(command);
  return command
    .optionsGroup("Options:")
    .option("--no-guess", "do not take repository, branch and commit from the git checkout in this folder")
    .option("--wait", "follow the log, and exit 0 only on SUCCESS")
    .addHelpText("after", HELP)
    .action(async (options: SubmitOptions) => finish(await submit(options, command, environment)));
};

const HELP = `
In a git checkout, --repo, --branch and --commit are those of the checkout if neither a flag nor the file names a
repository. A git token is read from ${API_SETTINGS.gitToken.name} unless --git-token-file or the file has one.

Examples:
  blacktree submit --wait --version v1.0.3 --account 123456789012 --ecr-repo app-images
  blacktree submit --repo owner/name --branch main --version v1 --account 123456789012 --ecr-repo app-images
  blacktree submit --file job.json --build-arg NODE_ENV=production --platform linux/amd64,linux/arm64
  blacktree submit --file job.json --secret id=npm,env=NPM_TOKEN --registry-auth-file ~/.docker/config.json`;

async function submit(
  options: SubmitOptions,
  command: Command,
  environment: Environment,
): Promise<ExitStatus> {
  const api = apiClient(options, environment);
  const job = await jobOf(options, command, environment);
  const jobId = String(job.job_id);
  const newJob = { jobId, path: "/api/v1/jobs", body: JSON.stringify(job), flagOf: flagOfField };
  const submitJob = () => sendJob(api, newJob);
  const isJson = options.json ?? false;
  if (options.wait) return waitForJob({ api, jobId, submit: submitJob, isJson, environment });
  await submitJob();
  if (isJson) printJson({ job_id: jobId });
  else printText(jobId);
  return EXIT.done;
}

const FLAGS = new Map<string, string>([
  ...FIELD_FLAGS.map(({ field, flag }) => [field, flag] as const),
  ...SECRET_FLAGS.map(([flag, field]) => [field, flag] as const),
]);

function flagOfField(field: string): string | undefined {
  return FLAGS.get(field);
}

/** With an id, so that it can be sent again if no answer arrives: an id never starts a second job. */
async function jobOf(
  options: SubmitOptions,
  command: Command,
  environment: Environment,
): Promise<JobMessage> {
  const fromFile: JobMessage = options.file === undefined ? {} : await readJobFile(options.file, "a job");
  const { fields, problems } = flaggedFields(command, fromFile, environment);
  const fromFlags = { ...fields, ...secretFields(command, fromFile, environment) };
  const token = environment[API_SETTINGS.gitToken.name];
  const given = { ...(token ? { git_token: token } : {}), ...fromFile, ...fromFlags };
  const guessed = options.guess ? guessedFields(given, environment) : {};
  const job = { job_id: randomUUID(), ...guessed, ...withoutNulls(given) };
  const allProblems = [...problems, ...missingFields(job)];
  if (allProblems.length > 0) throw new WrongUsage(allProblems.join("\n"));
  return job;
}

/** Null is as absent. */
function withoutNulls(fields: JobMessage): JobMessage {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}

const REQUIRED = ["repo_url", "branch", "deployment_version", "aws_account", "ecr_repo"];

function missingFields(job: JobMessage): readonly string[] {
  const missing = REQUIRED.filter((field) => job[field] === undefined);
  if (missing.length === 0) return [];
  const flags = missing.map((field) => `${FLAGS.get(field)} (${field})`).join(", ");
  return [`submit needs ${flags}, or these fields in the JSON of --file; see blacktree submit --help`];
}

/**
 * The commit belongs to a guessed branch, and the branch to a guessed repository, so neither is guessed for another
 * one that was named.
 */
function guessedFields(given: JobMessage, environment: Environment): JobMessage {
  const isGiven = (field: string) => given[field] !== undefined && given[field] !== null;
  if (isGiven("repo_url")) return {};
  const guess = guessJob(".", environment);
  const note = (text: string) => console.error(`blacktree: ${withVisibleCharacters(text)}`);
  if (guess.kind === "none") return {};
  if (guess.kind === "refused") {
    note(`repository not guessed from the checkout: ${guess.reason}; name it with --repo and --branch`);
    return {};
  }
  const { repo_url, branch, commit } = guess.job;
  const isOwnCommit = branch !== commit && !isGiven("commit");
  const fields = isGiven("branch") ? { repo_url } : { repo_url, branch, ...(isOwnCommit && { commit }) };
  const flags = Object.entries(fields).map(([field, value]) => `${FLAGS.get(field)} ${value}`);
  note(`guessed from the checkout: ${flags.join(" ")} (--no-guess turns this off)`);
  if (!isGiven("branch") && !isGiven("commit")) for (const warning of guess.warnings) note(warning);
  return fields;
}

/** `blacktree submit`: submits a job, and with --wait follows it until it ends. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import { EXIT, type ExitStatus, flagValue } from "../shared/settings/command-line.ts";
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

/** Flag and job field; fields that hold a secret have no flag. */
const FIELD_FLAGS = [
  ["repo", "repo_url", "owner/name, or a full https:// URL"],
  ["branch", "branch", "branch, tag, whole ref or full commit id"],
  ["version", "deployment_version", "tag of the image"],
  ["account", "aws_account", "AWS account of the registry"],
  ["ecr-repo", "ecr_repo", "ECR repository"],
  ["tenant", "tenant", "on whose behalf, default: the account"],
  ["region", "region", "AWS region of the registry"],
  ["worker-region", "worker_region", "worker region that builds the image"],
  ["job-id", "job_id", "id to use instead of a generated one"],
  ["commit", "commit", "full id of the commit to build instead of the tip"],
  ["dockerfile", "dockerfile", "path of the Dockerfile"],
  ["context", "context", "path of the build context"],
  ["target", "target", "build stage"],
] as const;

/** Fields whose values are numbers or booleans. */
const JSON_FLAGS = [
  ["git-depth", "git_depth", "number of commits in .git, 0 for all, default: 1"],
  ["git-tags", "git_tags", "true: .git also contains the tags of its commits"],
] as const;

interface SubmitOptions extends ApiOptions {
  readonly file?: string;
  readonly wait?: true;
  readonly [flag: string]: string | true | undefined;
}

export const submitCommand: MakeCommand = (environment, finish) => {
  const command = apiCommand("submit", environment).description(
    `submit a job; a git token is read from ${API_SETTINGS.gitToken.name} or the file, secrets and registry_auths from the file, none of them from a flag`,
  );
  for (const [flag, field, description] of [...FIELD_FLAGS, ...JSON_FLAGS])
    command.option(`--${flag} <value>`, `${description} (${field})`);
  command
    .option("--file <path>", "file with the job as JSON, - for standard input; flags override its fields")
    .option("--wait", "follow the log, and exit 0 only on SUCCESS");
  return command.action(async (options: SubmitOptions) =>
    finish(await submit(options, command, environment)),
  );
};

async function submit(
  options: SubmitOptions,
  command: Command,
  environment: Environment,
): Promise<ExitStatus> {
  const api = apiClient(options, environment);
  const job = jobOf(options, command, environment);
  const jobId = String(job.job_id);
  const submitJob = async () => {
    await api.post("/api/v1/jobs", JSON.stringify(job));
  };
  const isJson = options.json ?? false;
  if (options.wait) return waitForJob({ api, jobId, submit: submitJob, isJson, environment });
  await submitJob();
  if (isJson) printJson({ job_id: jobId });
  else console.log(jobId);
  return EXIT.done;
}

function jobOf(options: SubmitOptions, command: Command, environment: Environment): Record<string, unknown> {
  const fromFile = options.file === undefined ? {} : readJob(options.file);
  const token = environment[API_SETTINGS.gitToken.name];
  const fromFlags = FIELD_FLAGS.map(([flag, field]) => [field, flagValue(command, `--${flag}`)] as const);
  const fromJsonFlags = JSON_FLAGS.map(
    ([flag, field]) => [field, jsonValue(flagValue(command, `--${flag}`))] as const,
  );
  const given = [...fromFlags, ...fromJsonFlags].filter(([, value]) => value !== undefined);
  if (given.length === 0 && options.file === undefined) {
    throw new WrongUsage(
      "submit needs a job: --repo, --branch, --version, --account and --ecr-repo, or --file",
    );
  }
  const job = {
    ...(token ? { git_token: token } : {}),
    ...fromFile,
    ...Object.fromEntries(given),
  } as Record<string, unknown>;
  return { ...job, job_id: job.job_id ?? randomUUID() };
}

/** Another text stays one: the orchestrator reports what it expects. */
function jsonValue(text: string | undefined): unknown {
  return text !== undefined && /^(?:\d+|true|false)$/.test(text) ? JSON.parse(text) : text;
}

function readJob(path: string): object {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path === "-" ? 0 : path, "utf8"));
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed;
  } catch (error) {
    const reason = error instanceof SyntaxError ? "is not JSON" : `cannot be read: ${error}`;
    throw new WrongUsage(`--file ${path} ${reason}; expected a job as a JSON object`);
  }
  throw new WrongUsage(`--file ${path} does not contain a JSON object; expected a job`);
}

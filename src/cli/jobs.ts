/** `blacktree jobs`: lists jobs, the latest first. */
import { InvalidArgumentError, Option } from "commander";
import { JOB_STATES } from "../shared/job.ts";
import { EXIT } from "../shared/settings/command-line.ts";
import type { ApiClient } from "./api/client.ts";
import { ApiError } from "./api/error.ts";
import { JOBS } from "./api/shapes.ts";
import { printJson, printText } from "./stdout.ts";
import { tableOf } from "./terminal/table.ts";
import { shownAge } from "./terminal/times.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

export interface ListedJob {
  readonly job_id: string;
  readonly state: string;
  readonly accepted_at: string;
  /** Fields of its message: missing after a loss of the records. */
  readonly repo_url?: string;
  readonly branch?: string;
  readonly deployment_version?: string;
}

interface Page {
  readonly items: readonly ListedJob[];
  readonly next_cursor: string | null;
}

/** Options that are parameters of the request, by their names in it. */
const FILTERS = {
  state: "--state <states>",
  tenant: "--tenant <tenant>",
  region: "--region <region>",
  repo: "--repo <repository>",
  branch: "--branch <branch>",
  commit: "--commit <sha>",
  since: "--since <time>",
  until: "--until <time>",
} as const;

const DESCRIPTIONS: Readonly<Record<keyof typeof FILTERS, string>> = {
  state: `only jobs in these states, comma separated: ${JOB_STATES.join(", ")}`,
  tenant: "only jobs of this tenant",
  region: "only jobs for workers of this region",
  repo: "only jobs of this repository, such as owner/name",
  branch: "only jobs of this branch",
  commit: "only jobs of this commit, or of one that begins so",
  since: "only jobs that were accepted after this time (2026-01-31T12:00:00Z), or in the last 90m, 24h or 7d",
  until: "only jobs that were accepted before this time, or so long ago",
};

interface JobsOptions extends ApiOptions, Partial<Record<keyof typeof FILTERS, string>> {
  readonly limit: number;
  readonly all?: true;
}

const FILTER_NAMES = Object.keys(FILTERS) as (keyof typeof FILTERS)[];

export const jobsCommand: MakeCommand = (environment, finish) => {
  const command = apiCommand("jobs", environment).description("list jobs, the latest first");
  for (const name of FILTER_NAMES) command.option(FILTERS[name], DESCRIPTIONS[name]);
  return command
    .addOption(new Option("--limit <number>", "at most so many jobs").default(50).argParser(jobNumber))
    .addOption(new Option("--all", "all jobs").conflicts("limit"))
    .addHelpText(
      "after",
      `
Examples:
  blacktree jobs --state QUEUED                        what waits
  blacktree jobs --repo owner/name --since 24h         builds of a repository since yesterday
  blacktree jobs --all --state FAILED --json | jq -r '.[].job_id'`,
    )
    .action(async (options: JobsOptions) => {
      await list(apiClient(options, environment), options);
      finish(EXIT.done);
    });
};

async function list(api: ApiClient, options: JobsOptions): Promise<void> {
  const filters = FILTER_NAMES.filter((name) => options[name] !== undefined);
  const query = new URLSearchParams();
  for (const name of filters) query.set(name, options[name] ?? "");
  const { jobs, hasMore } = await listed(api, query, options.all ? Number.POSITIVE_INFINITY : options.limit);
  if (options.json) printJson(jobs);
  else if (jobs.length > 0) printText(describeJobs(jobs, new Date()));
  else printText(filters.length > 0 && (await hasJobs(api)) ? NO_MATCH : NO_JOBS);
  if (hasMore) console.error("blacktree: there are more jobs; --limit or --all lists them");
}

function jobNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Expected a whole number from 1 on.");
}

const MAX_PAGE = 500;

/** The server limits the jobs of one page, and the records that it reads for one. */
async function listed(
  api: ApiClient,
  query: URLSearchParams,
  wanted: number,
): Promise<{ jobs: readonly ListedJob[]; hasMore: boolean }> {
  const jobs: ListedJob[] = [];
  query.set("limit", String(Math.min(wanted, MAX_PAGE)));
  for (;;) {
    const { items, next_cursor } = await page(api, query);
    jobs.push(...items);
    if (next_cursor === null) return { jobs: jobs.slice(0, wanted), hasMore: jobs.length > wanted };
    if (jobs.length >= wanted) return { jobs: jobs.slice(0, wanted), hasMore: true };
    query.set("cursor", next_cursor);
  }
}

async function page(api: ApiClient, query: URLSearchParams): Promise<Page> {
  try {
    return await api.get<Page>(`/api/v1/jobs?${query}`, JOBS);
  } catch (error) {
    throw error instanceof ApiError ? error.withFlags((name) => `--${name}`) : error;
  }
}

async function hasJobs(api: ApiClient): Promise<boolean> {
  return (await page(api, new URLSearchParams({ limit: "1" }))).items.length > 0;
}

const NO_MATCH =
  "no jobs match these filters; without them, blacktree jobs lists all that the orchestrator remembers";

const NO_JOBS = `no jobs: none was accepted within BLACKTREE_JOB_MEMORY (24h), or --api is that of another installation. A message
that was refused is in the queue jobs.build.dead, with the reason in its header x-blacktree-reason`;

const HEADINGS = ["ID", "STATE", "AGE", "REPOSITORY", "BRANCH", "VERSION"];

export function describeJobs(jobs: readonly ListedJob[], now: Date): string {
  const rows = jobs.map(({ job_id, state, accepted_at, repo_url, branch, deployment_version }) => [
    job_id,
    state,
    shownAge(now.getTime() - Date.parse(accepted_at)),
    repo_url ?? "?",
    branch ?? "?",
    deployment_version ?? "?",
  ]);
  return tableOf(HEADINGS, rows);
}

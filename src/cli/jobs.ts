/** `blacktree jobs`: lists jobs, the latest first. */
import { EXIT } from "../shared/settings/command-line.ts";
import { tableOf } from "./table.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand, printJson, printText } from "./usage.ts";

interface ListedJob {
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
  state: "only jobs in these states, comma separated, such as QUEUED,BUILDING",
  tenant: "only jobs of this tenant",
  region: "only jobs for workers of this region",
  repo: "only jobs of this repository, such as owner/name",
  branch: "only jobs of this branch",
  commit: "only jobs of this commit, or of one that begins so",
  since: "only jobs that were accepted after this time (2026-01-31T12:00:00Z), or in the last 90m, 24h or 7d",
  until: "only jobs that were accepted before this time, or so long ago",
};

type JobsOptions = ApiOptions & Partial<Record<keyof typeof FILTERS, string>> & { readonly limit: string };

export const jobsCommand: MakeCommand = (environment, finish) => {
  const command = apiCommand("jobs", environment).description("list jobs, the latest first");
  for (const name of Object.keys(FILTERS) as (keyof typeof FILTERS)[])
    command.option(FILTERS[name], DESCRIPTIONS[name]);
  return command
    .option("--limit <number>", "at most so many jobs", "50")
    .addHelpText(
      "after",
      `
Examples:
  blacktree jobs --state QUEUED                        what waits
  blacktree jobs --repo owner/name --since 24h         builds of a repository since yesterday
  blacktree jobs --state FAILED --json | jq -r '.[].job_id'`,
    )
    .action(async (options: JobsOptions) => {
      const client = apiClient(options, environment);
      const jobs = await listed((query) => client.get<Page>(`/api/v1/jobs?${query}`), options);
      if (options.json) printJson(jobs);
      else printText(describeJobs(jobs, new Date()));
      finish(EXIT.done);
    });
};

/** The server limits the jobs of one page, and the records that it reads for one. */
async function listed(
  get: (query: URLSearchParams) => Promise<Page>,
  options: JobsOptions,
): Promise<readonly ListedJob[]> {
  const wanted = Number(options.limit);
  const query = new URLSearchParams({ limit: wanted > MAX_PAGE ? String(MAX_PAGE) : options.limit });
  for (const name of Object.keys(FILTERS) as (keyof typeof FILTERS)[]) {
    const value = options[name];
    if (value !== undefined) query.set(name, value);
  }
  const jobs: ListedJob[] = [];
  for (;;) {
    const { items, next_cursor } = await get(query);
    jobs.push(...items);
    if (next_cursor === null || jobs.length >= wanted) return jobs.slice(0, wanted);
    query.set("cursor", next_cursor);
  }
}

const MAX_PAGE = 500;

const NONE = `no jobs. The records of ended jobs are kept for BLACKTREE_JOB_MEMORY (24h); a message that was refused is in the
queue jobs.build.dead, with the reason in its header x-blacktree-reason`;

const HEADINGS = ["ID", "STATE", "AGE", "REPOSITORY", "BRANCH", "VERSION"];

/** @returns a table with headings, or why there are none. */
export function describeJobs(jobs: readonly ListedJob[], now: Date): string {
  if (jobs.length === 0) return NONE;
  const rows = jobs.map(({ job_id, state, accepted_at, repo_url, branch, deployment_version }) => [
    job_id,
    state,
    ageOf(now.getTime() - Date.parse(accepted_at)),
    repo_url ?? "?",
    branch ?? "?",
    deployment_version ?? "?",
  ]);
  return tableOf(HEADINGS, rows);
}

function ageOf(ageMs: number): string {
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
  ] as const;
  const [unit, unitMs] = units.find(([, sizeMs]) => ageMs >= 2 * sizeMs) ?? ["s", 1000];
  return `${Math.max(0, Math.floor(ageMs / unitMs))}${unit}`;
}

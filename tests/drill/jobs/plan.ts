/** The plan of the jobs: everything random about them follows from the seed. */
import type { Range, SeededRandom } from "../seeded-random.ts";
import { AWS_ACCOUNT, EMPTY_REGION, REGIONS } from "../site/site.ts";
import {
  type DrillJob,
  type FollowUp,
  type JobKind,
  type JobMessage,
  REPOSITORY,
  VERSION_PREFIX,
} from "./job.ts";

/** Jobs that are sent one after the other while others run, or all at once, many more than there are slots. */
export interface Phase {
  readonly kind: "steady" | "backlog";
  readonly jobs: readonly DrillJob[];
  /** All jobs end before the next phase, and nothing is sent for this long. */
  readonly quietMs: number;
}

export const ECR_REPOSITORIES = ["drill-one", "drill-two", "drill-three"];
const TENANTS = ["red", "green", "blue"];
const LONG_SECONDS: Range = [5, 20];

/** One or several jobs that belong together. */
type Story =
  | { readonly kind: "plain"; readonly job: JobKind }
  | {
      readonly kind: "followed";
      readonly job: JobKind;
      readonly by: FollowUp["kind"];
      readonly within: Range;
    }
  /** Several jobs, each of which cancels the earlier ones. */
  | { readonly kind: "superseded"; readonly jobs: readonly JobKind[] };

const plain = (job: JobKind): Story => ({ kind: "plain", job });
const repeated = (count: number, story: Story): Story[] => Array.from({ length: count }, () => story);

/** Each story's share; the deck is shuffled for each group of its length. Its first jobs are of all kinds. */
const DECK: readonly Story[] = [
  ...repeated(6, plain("quick")),
  ...repeated(3, plain("long")),
  plain("failing"),
  plain("foreign"),
  plain("invalid"),
  plain("malformed"),
  { kind: "followed", job: "quick", by: "cancel", within: [0, 3000] },
  { kind: "followed", job: "long", by: "cancel", within: [1000, 12_000] },
  { kind: "followed", job: "quick", by: "duplicate", within: [0, 8000] },
  { kind: "followed", job: "long", by: "duplicate", within: [0, 8000] },
  { kind: "followed", job: "quick", by: "conflict", within: [0, 5000] },
  { kind: "superseded", jobs: ["long", "quick", "quick"] },
];

export const DECK_JOBS = DECK.reduce(
  (sum, story) => sum + (story.kind === "superseded" ? story.jobs.length : 1),
  0,
);

const STEADY_JOBS: Range = [8, 16];
const BACKLOG_JOBS: Range = [14, 40];
const QUIET_MS: Range = [1000, 4000];

export function planPhases(count: number, random: SeededRandom, mark: string): Phase[] {
  const jobs = planJobs(count, random, mark);
  const phases: Phase[] = [];
  for (let at = 0; at < jobs.length; ) {
    const kind = phases.length % 2 === 0 ? "steady" : "backlog";
    const size = random.integer(kind === "steady" ? STEADY_JOBS : BACKLOG_JOBS);
    const quietMs = kind === "backlog" ? random.integer(QUIET_MS) : 0;
    phases.push({ kind, jobs: jobs.slice(at, at + size), quietMs });
    at += size;
  }
  return phases;
}

export function planJobs(count: number, random: SeededRandom, mark: string): DrillJob[] {
  const jobs: DrillJob[] = [];
  while (jobs.length < count) {
    for (const story of random.shuffled(DECK)) jobs.push(...jobsOf(story, jobs.length + 1, random, mark));
  }
  return jobs.slice(0, count);
}

function jobsOf(story: Story, number: number, random: SeededRandom, mark: string): DrillJob[] {
  if (story.kind === "plain") return [planJob(story.job, number, random, mark)];
  if (story.kind === "followed") {
    const followUps = [{ kind: story.by, afterMs: random.integer(story.within) }];
    return [{ ...planJob(story.job, number, random, mark), followUps }];
  }
  const group = { tenant: random.pick(TENANTS), supersede: `group/${number}` };
  return story.jobs.map((kind, index) => {
    const job = planJob(kind, number + index, random, mark);
    return { ...job, message: { ...job.message, ...group } };
  });
}

export function planJob(kind: JobKind, number: number, random: SeededRandom, mark: string): DrillJob {
  const name = String(number).padStart(4, "0");
  const seconds = kind === "long" ? random.integer(LONG_SECONDS) : 0;
  const message: JobMessage = {
    job_id: `${mark}-${name}`,
    repo_url: REPOSITORY,
    branch: "main",
    deployment_version: `${VERSION_PREFIX}${name}`,
    aws_account: AWS_ACCOUNT,
    ecr_repo: random.pick(ECR_REPOSITORIES),
    tenant: random.pick(TENANTS),
    ...planPlace(random),
    priority: random.pick(["low", "normal", "normal", "high"]),
    build_args: { JOB: name, SECONDS: String(seconds), STATUS: kind === "failing" ? "3" : "0" },
    ...planNeeds(kind, random),
  };
  return { kind, message, followUps: [] };
}

/** Of the region without workers, jobs can only be built elsewhere. */
function planPlace(random: SeededRandom): Pick<JobMessage, "worker_region" | "region_policy"> {
  const region = random.pick([...REGIONS, ...REGIONS, EMPTY_REGION]);
  const mayRequire = region !== EMPTY_REGION;
  const isRequired = random.next() < 0.4 && mayRequire;
  return { worker_region: region, region_policy: isRequired ? "require" : "prefer" };
}

type Needs = Pick<JobMessage, "secrets" | "provenance" | "platforms">;

function planNeeds(kind: JobKind, random: SeededRandom): Needs {
  if (kind === "foreign") return { platforms: ["linux/s390x"] };
  return random.pick<Needs>([
    {},
    {},
    { provenance: true },
    { secrets: { TOKEN: "a secret of the drill" } },
    { platforms: ["linux/amd64"] },
  ]);
}

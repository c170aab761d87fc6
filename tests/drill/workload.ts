/** The drill's jobs: real builds of one small repository, most of them quick, some long, some failing. */
import { sampleRepository } from "../support/machine/sample-repository.ts";
import type { Range, SeededRandom } from "./seeded-random.ts";
import { AWS_ACCOUNT, type Site } from "./site.ts";

export type JobKind = "quick" | "long" | "failing";

export interface DrillJob {
  readonly kind: JobKind;
  readonly seconds: number;
  readonly message: {
    readonly job_id: string;
    readonly repo_url: string;
    readonly branch: string;
    readonly deployment_version: string;
    readonly aws_account: string;
    readonly ecr_repo: string;
    readonly build_args: Readonly<Record<string, string>>;
  };
}

const REPOSITORY = "drill/sample";
const ECR_REPOSITORIES = ["drill-one", "drill-two", "drill-three"];
const LONG_SECONDS: Range = [5, 20];
/** Each job kind's share; the deck is shuffled for each group of its length. */
const DECK: readonly JobKind[] = [
  ...Array.from({ length: 14 }, () => "quick" as const),
  ...Array.from({ length: 5 }, () => "long" as const),
  "failing",
];

export async function createRepositories(site: Site): Promise<void> {
  for (const name of ECR_REPOSITORIES) site.addEcrRepository(name);
  await site.backends.git.createRepository(REPOSITORY, {
    ...(await sampleRepository({ greeting: site.mark })),
    Dockerfile: dockerfile(site.mark),
  });
}

/** The random line makes the images of two attempts differ, unless the second attempt reuses the cached step. */
function dockerfile(mark: string): string {
  const script = [
    `echo ${mark} $JOB`,
    "/bin/busybox sleep $SECONDS",
    "/bin/busybox cat /proc/sys/kernel/random/uuid > /printed",
    "exit $STATUS",
  ];
  return [
    "FROM scratch",
    "COPY bin/busybox /bin/busybox",
    "COPY greeting /greeting",
    "ARG JOB",
    "ARG SECONDS",
    "ARG STATUS",
    `RUN ${JSON.stringify(["/bin/busybox", "sh", "-c", script.join("; ")])}`,
    "",
  ].join("\n");
}

/** Decides everything random about the jobs. */
export function planJobs(count: number, random: SeededRandom, mark: string): DrillJob[] {
  const jobs: DrillJob[] = [];
  while (jobs.length < count) {
    for (const kind of random.shuffled(DECK)) jobs.push(planJob(kind, jobs.length + 1, random, mark));
  }
  return jobs.slice(0, count);
}

export function planJob(kind: JobKind, number: number, random: SeededRandom, mark: string): DrillJob {
  const name = String(number).padStart(4, "0");
  const seconds = kind === "long" ? random.integer(LONG_SECONDS) : 0;
  return {
    kind,
    seconds,
    message: {
      job_id: `${mark}-${name}`,
      repo_url: REPOSITORY,
      branch: "main",
      deployment_version: `v-${name}`,
      aws_account: AWS_ACCOUNT,
      ecr_repo: random.pick(ECR_REPOSITORIES),
      build_args: { JOB: name, SECONDS: String(seconds), STATUS: kind === "failing" ? "3" : "0" },
    },
  };
}

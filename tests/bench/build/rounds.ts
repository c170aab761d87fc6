/**
 * One round: two new repositories, one for each side, with the same content except for a mark. Both sides build theirs
 * in every case, one right after the other, and alternate in going first.
 */
import type { RepositoryFiles } from "../../support/machine/sample-repository.ts";
import type { Log } from "../bench-command.ts";
import type { CaseName, ScriptCase } from "./cases.ts";
import { ImageCheck } from "./image-check.ts";
import type { Measurement, Sample } from "./measurement.ts";
import { builtFrom, changeOf, repositoryOf, type Size } from "./repositories.ts";
import { AWS_ACCOUNT, type BuildSite, REGION, SECOND_REGION } from "./site.ts";

export interface RoundOptions {
  readonly size: Size;
  /** From 1; 0 is the warm-up. */
  readonly number: number;
  readonly cases: readonly CaseName[];
  readonly seed: string;
}

type Side = Sample["side"];

/** One side's repository, in the git server and in the registry. */
interface SideState {
  readonly repository: string;
  readonly ecrRepo: string;
  files: RepositoryFiles;
  commit: string;
  /** The version that was pushed last. */
  version: number;
}

interface JobChanges {
  readonly region?: string;
  readonly reuse?: "same-commit";
  readonly isSameVersion?: boolean;
}

const BRANCH = "main";

export async function runRound(
  site: BuildSite,
  options: RoundOptions,
  log: Log,
  interrupted: AbortSignal,
): Promise<Sample[]> {
  await site.resetCaches();
  const sides = { script: await startSide("script"), blacktree: await startSide("blacktree") };
  const round = new Round(site, options, sides, log, interrupted);
  await round.run();
  return round.samples;

  async function startSide(side: Side): Promise<SideState> {
    const { size, number, seed } = options;
    const name = `${size}-${side}-${number}`;
    const files = await repositoryOf(size, seed, name);
    const [repository, ecrRepo] = [`bench/${name}`, `bench-${name}`];
    site.backends.aws.addRepository(AWS_ACCOUNT, ecrRepo);
    const commit = await site.backends.git.createRepository(repository, files);
    return { repository, ecrRepo, files, commit, version: 0 };
  }
}

class Round {
  readonly samples: Sample[] = [];
  readonly #check: ImageCheck;
  #changes = 0;
  #turns: number;

  constructor(
    private readonly site: BuildSite,
    private readonly options: RoundOptions,
    private readonly sides: Readonly<Record<Side, SideState>>,
    private readonly log: Log,
    private readonly interrupted: AbortSignal,
  ) {
    this.#check = new ImageCheck(site.backends.registry);
    this.#turns = options.number;
  }

  async run(): Promise<void> {
    await this.#both("cold", () => this.#job("cold"));
    if (this.#isAsked("changed")) {
      await this.#change();
      await this.#both("changed", () => this.#job("changed"));
    }
    if (this.#isAsked("rebuilt", "unchanged", "again")) {
      await this.#both("unchanged", () => this.#unchangedJobs());
    }
    if (this.site.hasRegistryCache) await this.#onSecondWorker();
  }

  async #unchangedJobs(): Promise<void> {
    if (this.#isAsked("rebuilt")) await this.#job("rebuilt");
    if (this.#isAsked("unchanged")) await this.#job("unchanged", { reuse: "same-commit" });
    if (this.#isAsked("again")) await this.#job("again", { isSameVersion: true });
  }

  async #onSecondWorker(): Promise<void> {
    for (const name of ["second-worker", "second-worker-changed"] as const) {
      if (!this.#isAsked(name)) continue;
      await this.site.untilCached();
      if (name === "second-worker-changed") await this.#change();
      await this.site.withSecondWorker(() => this.#job(name, { region: SECOND_REGION }));
    }
  }

  #isAsked(...names: readonly CaseName[]): boolean {
    return names.some((name) => this.options.cases.includes(name));
  }

  /** Changes the same file on both sides. */
  async #change(): Promise<void> {
    this.#changes += 1;
    for (const side of Object.values(this.sides)) {
      const change = changeOf(side.files, this.options.seed, this.#changes);
      side.files = { ...side.files, ...change };
      side.commit = await this.site.backends.git.commit(side.repository, change);
    }
  }

  async #both(scriptCase: ScriptCase, blacktree: () => Promise<void>): Promise<void> {
    const turns = [() => this.#script(scriptCase), blacktree];
    if (this.#turns++ % 2 === 0) turns.reverse();
    for (const turn of turns) await turn();
  }

  async #script(name: ScriptCase): Promise<void> {
    await this.#settle();
    const state = this.sides.script;
    state.version += 1;
    const { script, backends } = this.site;
    const { digest, ...measured } = await script.run({
      repositoryUrl: `${backends.git.baseUrl}/${state.repository}`,
      branch: BRANCH,
      ecrRepo: state.ecrRepo,
      version: `v${state.version}`,
    });
    await this.#checkImage(state, digest);
    this.#keep({ ...this.#where(), side: "script", case: name, measured });
  }

  async #job(name: CaseName, { region = REGION, reuse, isSameVersion }: JobChanges = {}): Promise<void> {
    await this.#settle();
    const state = this.sides.blacktree;
    if (!isSameVersion) state.version += 1;
    const { digest, commit, ...measured } = await this.site.jobs.run({
      repo_url: state.repository,
      branch: BRANCH,
      deployment_version: `v${state.version}`,
      aws_account: AWS_ACCOUNT,
      ecr_repo: state.ecrRepo,
      region: REGION,
      worker_region: region,
      region_policy: "require",
      ...(reuse && { reuse }),
    });
    if (commit !== state.commit) throw new Error(`built commit ${commit}, expected ${state.commit}`);
    await this.#checkImage(state, digest);
    this.#keep({ ...this.#where(), side: "blacktree", case: name, measured });
  }

  /** Waits until background work of the previous build has ended, so that it does not slow down the next one. */
  async #settle(): Promise<void> {
    this.interrupted.throwIfAborted();
    await this.site.untilIdle();
  }

  #checkImage({ ecrRepo, version, files }: SideState, digest: string): Promise<void> {
    return this.#check.check({
      repository: ecrRepo,
      version: `v${version}`,
      digest,
      built: builtFrom(files),
    });
  }

  #where() {
    return { size: this.options.size, round: this.options.number };
  }

  #keep(sample: Sample): void {
    this.samples.push(sample);
    this.log(describeSample(sample));
  }
}

function describeSample({ size, round, side, case: name, measured }: Sample): string {
  const title = `${size}, round ${round}: ${name}, ${side}`;
  return `${title.padEnd(54)}${ms(measured.totalMs)} ms   ${describeSteps(measured)}`;
}

function describeSteps({ stepsMs }: Measurement): string {
  return Object.entries(stepsMs)
    .map(([name, took]) => `${name} ${Math.round(took)}`)
    .join(", ");
}

function ms(value: number): string {
  return String(Math.round(value)).padStart(7);
}

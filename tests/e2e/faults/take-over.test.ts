/** Orchestrators that end while they have a job: the job continues, and an orchestrator publishes its one result. */
import { expect, test } from "bun:test";
import {
  type OrchestratorProcess,
  SHORT_LEASE,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  anyOf,
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holderOf,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { inFullCheck, isFullCheck } from "../../support/machine/full-check.ts";
import type { HeldRequests } from "../../support/machine/held-requests.ts";

const site = faultSite();

interface Scene {
  readonly job: SampleJob;
  /** Lets the job's build continue. */
  release(): void;
  readonly worker: WorkerProcess;
  /** The orchestrator that runs the job, and the other one. */
  readonly holder: OrchestratorProcess;
  readonly other: OrchestratorProcess;
}

async function startBoth(): Promise<readonly [OrchestratorProcess, OrchestratorProcess]> {
  return Promise.all([
    site.deployment.startOrchestrator(SHORT_LEASE),
    site.deployment.startOrchestrator(SHORT_LEASE),
  ]);
}

/** Two orchestrators, one worker, and a running build, which is held before its push. */
async function startScene(): Promise<Scene> {
  const deployment = await site.deploy();
  const both = await startBoth();
  const worker = await deployment.startWorker(anyOf(...both));
  const job = await sampleJob(site.backends, { variant: "working" });
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  const [holder, other] = await holderOf(job, both, "job assigned");
  await untilState(holder, job.job_id, "BUILDING");
  return { job, release: () => held.release(), worker, holder, other };
}

async function expectOneResult(
  job: SampleJob,
  worker: WorkerProcess,
  orchestrator: OrchestratorProcess,
): Promise<void> {
  await expectSuccess(site, job, { worker });
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  expect(tagPuts(site, job)).toHaveLength(1);
  await expectNothingLeft(site.deployment, orchestrator);
}

interface Moment {
  readonly when: string;
  /** Holds the job in this state, where necessary until this is released. */
  hold(job: SampleJob, worker: WorkerProcess): Pick<HeldRequests, "release">;
  /** Resolves when the job is in this state. */
  reached(job: SampleJob, holder: OrchestratorProcess): Promise<unknown>;
  /** Attempts that the job needs; 1 by default. */
  readonly attempts?: number;
  /** The worker may not have received the first attempt; then that attempt ends with its lease, and never runs. */
  readonly mayNeverRun?: true;
  /** Only the full check has it. */
  readonly isFullOnly?: true;
}

const nothing = { release: () => undefined };
const inState = (state: Parameters<typeof untilState>[2]) => (job: SampleJob, holder: OrchestratorProcess) =>
  untilState(holder, job.job_id, state);

const MOMENTS: readonly Moment[] = [
  {
    when: "ASSIGNED, with a worker that has not answered yet",
    hold(_job, { process }) {
      process.pause();
      return { release: () => process.resume() };
    },
    reached: inState("ASSIGNED"),
    mayNeverRun: true,
    isFullOnly: true,
  },
  { when: "CLONING", hold: () => site.backends.git.hold(), reached: inState("CLONING"), isFullOnly: true },
  {
    when: "AUTHENTICATING",
    hold: () => site.backends.aws.hold("GetAuthorizationToken"),
    reached: inState("AUTHENTICATING"),
    isFullOnly: true,
  },
  { when: "BUILDING", hold: () => nothing, reached: inState("BUILDING"), isFullOnly: true },
  {
    when: "PUSHING",
    hold: (job) => holdPush(site.backends, job),
    reached: inState("PUSHING"),
    isFullOnly: true,
  },
  {
    when: "RETRYING, in the delay before its second attempt",
    hold({ deployment_version }) {
      // As many requests for the version as one attempt sends.
      site.backends.ecr.failNext({ count: 3, status: 503, path: new RegExp(`/${deployment_version}$`) });
      return nothing;
    },
    reached: inState("RETRYING"),
    attempts: 2,
  },
];

for (const { when, hold, reached, attempts = 1, mayNeverRun, isFullOnly } of MOMENTS) {
  inFullCheck(isFullOnly ?? false).test(
    `take-over: an orchestrator is killed while its job is ${when}`,
    async () => {
      const deployment = await site.deploy();
      const both = await startBoth();
      const worker = await deployment.startWorker(anyOf(...both));
      const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 2 });
      const held = site.keep(hold(job, worker));
      await deployment.publish(job);
      const [holder, other] = await holderOf(job, both, "job assigned");
      await reached(job, holder);
      await holder.process.kill();
      held.release();
      await expectSuccess(site, job, { worker, attempt: mayNeverRun ? "any" : attempts });
      await untilFree(other, worker);
      expect(runsStarted(worker, job)).toBe(attempts);
      expect(tagPuts(site, job)).toHaveLength(1);
      await expectNothingLeft(deployment, other);
    },
  );
}

test("take-over: an orchestrator is killed while its job is QUEUED without any worker", async () => {
  const deployment = await site.deploy();
  const both = await startBoth();
  const job = await sampleJob(site.backends, { variant: "working" });
  await deployment.publish(job);
  const [intake, other] = await holderOf(job, both, "job queued");
  await intake.process.kill();
  const worker = await deployment.startWorker(other);
  await expectOneResult(job, worker, other);
});

test("take-over: an orchestrator is killed when the run has ended and its result is not published", async () => {
  const deployment = await site.deploy();
  // An existing queue is used unchanged, and this one accepts no second message.
  const full = { "x-max-length": 1, "x-overflow": "reject-publish" };
  await deployment.amqp.assertQueue("jobs.results", { durable: true, arguments: full });
  deployment.amqp.sendToQueue("jobs.results", Buffer.from("in the way"));
  const both = await startBoth();
  const worker = await deployment.startWorker(anyOf(...both));
  const job = await sampleJob(site.backends, { variant: "working" });
  await deployment.publish(job);
  const [holder, other] = await holderOf(job, both, "job assigned");
  await holder.process.waitForLine(/"queue":"jobs.results","answer":"refused"/, { timeoutMs: 30_000 });
  await holder.process.kill();
  expect((await deployment.next("jobs.results")).content.toString()).toBe("in the way");
  await expectOneResult(job, worker, other);
});

test("take-over: an orchestrator receives SIGTERM, ends at once, and another one takes over the running build", async () => {
  const { job, release, worker, holder, other } = await startScene();
  holder.process.signal("SIGTERM");
  // An orchestrator that waited for the build would not end.
  expect(await holder.process.exited).toBe(0);
  await other.process.waitForLine("attaching to a running job");
  release();
  await expectOneResult(job, worker, other);
});

test("take-over: a frozen orchestrator's builds go to another one after missed heartbeats, and it does no harm when it resumes", async () => {
  const { job, release, worker, holder, other } = await startScene();
  const { deployment, backends } = site;
  holder.process.pause();
  // As the broker does when heartbeats fail, but without the wait for them.
  const closeAll = ["close_all_connections", "--vhost", deployment.vhost, "missed heartbeats"];
  await backends.rabbitmq.rabbitmqctl(closeAll);
  await deployment.reconnect();
  await other.process.waitForLine("attaching to a running job");
  release();
  holder.process.resume();
  await expectOneResult(job, worker, other);
  await expectNothingLeft(deployment, holder);
});

test("take-over: the only orchestrator is down for longer than a lease: the next one finds the running build, however late", async () => {
  const deployment = await site.deploy();
  const settings = { ...SHORT_LEASE, BLACKTREE_GRPC_LISTEN: `127.0.0.1:${await freePort()}` };
  const before = await deployment.startOrchestrator(settings);
  const workers = await Promise.all([deployment.startWorker(before), deployment.startWorker(before)]);
  const job = await sampleJob(site.backends, { variant: "working" });
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  const [worker, idle] = await holderOf(job, workers, "run started");
  await untilState(before, job.job_id, "BUILDING");
  await before.process.kill();
  for (const { process } of workers)
    await process.waitForLine("no orchestrator answers", { timeoutMs: 30_000 });

  // The free worker registers first.
  worker.process.pause();
  const after = await deployment.startOrchestrator(settings);
  await untilFree(after, idle);
  worker.process.resume();
  await after.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  held.release();
  await expectOneResult(job, worker, after);
  expect(runsStarted(idle, job)).toBe(0);
});

inFullCheck().test(
  "take-over: an orchestrator that crashes again and again finds its build each time, and the order of waiting jobs stays",
  async () => {
    const crashes = isFullCheck ? 10 : 3;
    const waiting = Array.from({ length: 70 }, (_, index) => `waiting-${index}`);
    const deployment = await site.deploy();
    let orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
    const settings = { ...SHORT_LEASE, BLACKTREE_GRPC_LISTEN: orchestrator.grpcAddress };
    await deployment.startWorker(orchestrator);
    const job = await sampleJob(site.backends, { variant: "working" });
    const held = site.keep(holdPush(site.backends, job));
    await deployment.publish(job);
    await held.arrived;
    // More than an orchestrator would hold while it searches for the build's message.
    for (const job_id of waiting) await deployment.publish({ ...job, job_id, repo_url: "owner/nowhere" });
    await untilState(orchestrator, waiting.at(-1) ?? "", "QUEUED");
    for (let crash = 1; crash <= crashes; crash += 1) {
      await orchestrator.process.kill();
      orchestrator = await deployment.startOrchestrator(settings);
      await orchestrator.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
    }
    held.release();
    await expectSuccess(site, job);
    const ended: string[] = [];
    while (ended.length < waiting.length) ended.push((await deployment.nextResult()).job_id);
    expect(ended).toEqual(waiting);
    await expectNothingLeft(deployment, orchestrator);
  },
);

/** Operators take workers and regions out of service with the commands, while two orchestrators assign jobs. */
import { beforeEach, expect, test } from "bun:test";
import { ADMIN_TOKEN, apiRequest } from "../support/blacktree/admin-api.ts";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import {
  type OrchestratorProcess,
  type ShownWorker,
  shownJob,
  untilPinged,
  untilState,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { anyOf, faultSite } from "../support/blacktree/fault-site.ts";
import { inFullCheck } from "../support/machine/full-check.ts";
import { type FinishedProcess, run, startProcess, type TestProcess } from "../support/machine/processes.ts";
import { waitFor } from "../support/machine/wait-for.ts";

const site = faultSite();
const { cli } = await compiledBinaries();
const env = { BLACKTREE_ADMIN_TOKEN: ADMIN_TOKEN };

beforeEach(async () => {
  await site.deploy();
  site.backends.aws.addRepository("1234567890", "app-images");
});

function blacktree({ apiUrl }: OrchestratorProcess, ...args: readonly string[]): Promise<FinishedProcess> {
  return run([cli, ...args, "--api", apiUrl], { env, mayFail: true });
}

async function output(orchestrator: OrchestratorProcess, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await blacktree(orchestrator, ...args);
  if (exitCode !== 0) throw new Error(`blacktree ${args.join(" ")}: ${exitCode} ${stderr}`);
  return stdout;
}

/** A job that ends after its request to git. */
async function publish(job_id: string, changes: object = {}): Promise<void> {
  const job = { repo_url: "owner/nowhere", branch: "main", deployment_version: "v1", ecr_repo: "app-images" };
  await site.deployment.publish({ ...job, aws_account: "1234567890", job_id, ...changes });
}

const holdJobs = () => site.keep(site.backends.git.hold());

async function shownWorker({ apiUrl }: OrchestratorProcess, id: string): Promise<ShownWorker | undefined> {
  const response = await apiRequest(apiUrl, `/api/v1/workers/${id}`);
  return response.ok ? ((await response.json()) as ShownWorker) : undefined;
}

/** Every orchestrator has pinged the worker, so that each could assign jobs to it. */
function untilPingedByAll(orchestrators: readonly OrchestratorProcess[], id: string): Promise<ShownWorker[]> {
  return Promise.all(orchestrators.map((orchestrator) => untilPinged(orchestrator, { id })));
}

/** A worker that misses a ping on a busy machine is shown as lost until the next one. */
async function untilPrinted(
  orchestrator: OrchestratorProcess,
  args: readonly string[],
  ...patterns: readonly (string | RegExp)[]
): Promise<void> {
  const hasAll = async () => {
    const text = await output(orchestrator, ...args);
    return patterns.every((pattern) =>
      typeof pattern === "string" ? text.includes(pattern) : pattern.test(text),
    );
  };
  await waitFor(hasAll, {
    timeoutMs: 60_000,
    what: `blacktree ${args.join(" ")} to print ${patterns.join(", ")}`,
  });
}

async function resultWorkers(ids: readonly string[]): Promise<Map<string, string | null>> {
  const workers = new Map<string, string | null>();
  while (workers.size < ids.length) {
    const { job_id, worker_id } = await site.deployment.nextResult();
    workers.set(job_id, worker_id);
  }
  expect([...workers.keys()].toSorted()).toEqual([...ids].toSorted());
  return workers;
}

const settings = (id: string, slots = 1) => ({
  BLACKTREE_WORKER_ID: id,
  BLACKTREE_WORKER_SLOTS: String(slots),
});

async function restarted(
  worker: WorkerProcess,
  orchestrators: readonly OrchestratorProcess[],
  slots: number,
) {
  worker.process.signal("SIGTERM");
  expect(await worker.process.exited).toBe(0);
  const again = await site.deployment.startWorker(anyOf(...orchestrators), {
    ...settings(worker.id, slots),
    BLACKTREE_WORK_DIR: worker.workDir,
  });
  expect(again.incarnation).not.toBe(worker.incarnation);
  return again;
}

test("operators: a paused worker ends its job, and gets no other one, also after a restart, until it is resumed", async () => {
  const { deployment } = site;
  const [one, two] = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const orchestrators = [one, two];
  const steady = await deployment.startWorker(anyOf(one, two), {
    ...settings("steady", 2),
    BLACKTREE_WORKER_LABELS: "rack=7",
  });
  const held = holdJobs();
  await publish("running");
  await untilState(one, "running", "CLONING");
  expect(await output(two, "pause", "steady", "--reason", "new disk")).toBe(
    "steady is paused: it gets no jobs until it is resumed; 1 job still runs there\n",
  );
  const other = await deployment.startWorker(anyOf(one, two), settings("other"));
  await untilPingedByAll(orchestrators, "other");
  const later = Array.from({ length: 4 }, (_, index) => `later-${index}`);
  for (const id of later) await publish(id);
  held.release();
  const workers = await resultWorkers(["running", ...later]);
  expect(workers.get("running")).toBe("steady");
  for (const id of later) expect(workers.get(id)).toBe("other");

  await output(one, "drain", "other");
  await publish("waits");
  await waitFor(async () => (await shownJob(one, "waits"))?.state === "QUEUED", {
    timeoutMs: 30_000,
    what: "the job to wait",
  });
  await untilPrinted(
    two,
    ["why", "waits"],
    "no worker of us-east-1 takes jobs",
    /steady .* BUSY .*paused by an operator since 20.*Z: new disk/,
    /other .* DRAINING .*drained by an operator since 20/,
  );

  await restarted(steady, orchestrators, 2);
  for (const worker of await untilPingedByAll(orchestrators, "steady"))
    expect(worker).toMatchObject({ status: "BUSY", refusal: "paused by an operator: new disk", jobs: [] });
  await untilPrinted(one, ["workers", "--status", "busy"], "paused by an operator: new disk");
  expect((await shownJob(one, "waits"))?.state).toBe("QUEUED");

  expect(await output(one, "resume", "steady")).toBe("steady is resumed\n");
  expect(await deployment.nextResult()).toMatchObject({ job_id: "waits", worker_id: "steady" });
  expect(other.process.exitCode).toBeNull();
});

test("operators: a drain waits for the last job if it is asked to", async () => {
  const { deployment } = site;
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, { BLACKTREE_WORKER_LABELS: "rack=7" });
  const held = holdJobs();
  await publish("running");
  await untilState(orchestrator, "running", "CLONING");
  const draining: TestProcess = startProcess(
    [cli, "drain", worker.id, "--wait", "--api", orchestrator.apiUrl],
    { env },
  );
  await draining.waitForLine(
    `${worker.id} is drained: it gets no jobs until it is resumed; 1 job still runs there`,
  );
  // Its id is made at each start.
  await draining.waitForLine(
    "after a restart it has another one, and accepts jobs; set BLACKTREE_WORKER_ID on it",
  );
  expect(await untilPinged(orchestrator, worker)).toMatchObject({ status: "DRAINING", jobs: ["running"] });
  expect(draining.exitCode).toBeNull();
  held.release();
  await draining.waitForLine(new RegExp(`^no job runs on ${worker.id} any more$`));
  expect(await draining.exited).toBe(0);
  expect(await shownWorker(orchestrator, worker.id)).toMatchObject({ jobs: [], labels: { rack: "7" } });

  expect(await blacktree(orchestrator, "pause", "absent")).toMatchObject({
    exitCode: 1,
    stderr: `blacktree: No such worker: worker absent is not known: it was stopped, was lost more than an hour ago, or has never registered; known workers: ${worker.id}\n`,
  });
  expect((await blacktree(orchestrator, "drain")).exitCode).toBe(2);
});

inFullCheck().test(
  "operators: a drained region gets no jobs, also on a worker that registers later; others get those that may leave it",
  async () => {
    const { deployment } = site;
    const orchestrator = await deployment.startOrchestrator({ BLACKTREE_REGION_FALLBACK: "eu-west-1" });
    const regional = (id: string, region: string) =>
      deployment.startWorker(orchestrator, { ...settings(id), BLACKTREE_WORKER_REGION: region });
    await Promise.all([regional("american", "us-east-1"), regional("european", "eu-west-1")]);
    const drained = await output(orchestrator, "drain", "--region", "us-east-1", "--reason", "power cut");
    expect(drained).toBe("us-east-1 is drained: it gets no jobs until it is resumed; no job runs there\n");
    await publish("insists", { region_policy: "require" });
    await publish("prefers");
    expect(await deployment.nextResult()).toMatchObject({ job_id: "prefers", worker_id: "european" });
    await regional("late", "us-east-1");
    await untilPingedByAll([orchestrator], "late");
    expect((await shownJob(orchestrator, "insists"))?.state).toBe("QUEUED");
    expect(await output(orchestrator, "why", "insists")).toMatch(
      /the region us-east-1 is drained by an operator since 20.*Z: power cut/,
    );
    await untilPrinted(
      orchestrator,
      ["regions"],
      /us-east-1 +2 DRAINING +2 +0 +0 +drained by an operator: power cut/,
    );
    expect(await output(orchestrator, "resume", "--region", "us-east-1")).toBe("us-east-1 is resumed\n");
    const { worker_id } = await deployment.nextResult();
    expect(["american", "late"]).toContain(`${worker_id}`);
  },
);

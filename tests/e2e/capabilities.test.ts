/** Jobs that need more than every worker can: they wait for a worker that can build them, and delay no other jobs. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import {
  type OrchestratorProcess,
  shownJob,
  shownWorkers,
  untilFree,
} from "../support/blacktree/deployment.ts";
import { faultSite } from "../support/blacktree/fault-site.ts";
import { freePort } from "../support/machine/free-port.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import type { DockerEngine } from "../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../support/servers/pool.ts";

const site = faultSite();
/** Its builder cannot make attestations. */
let plainEngine: DockerEngine;

beforeAll(async () => {
  plainEngine = await borrowDockerEngine("20.10");
});

beforeEach(async () => {
  await site.deploy();
}, 400_000);

afterAll(() => plainEngine?.stop());

const startPlainWorker = (orchestrator: OrchestratorProcess) =>
  site.deployment.startWorker(orchestrator, plainEngine.env());

/** A job that ends after its request to git. */
async function publish(job_id: string, changes: object = {}): Promise<void> {
  const job = { repo_url: "owner/nowhere", branch: "main", deployment_version: "v1", ecr_repo: "app-images" };
  site.backends.aws.addRepository("1234567890", "app-images");
  await site.deployment.publish({ ...job, aws_account: "1234567890", job_id, ...changes });
}

const stateOf = async (orchestrator: OrchestratorProcess, jobId: string) =>
  (await shownJob(orchestrator, jobId))?.state;

test("capabilities: a job waits for a worker that can build it, later jobs do not wait, and workers show their capabilities", async () => {
  const orchestrator = await site.deployment.startOrchestrator();
  const plain = await startPlainWorker(orchestrator);
  const ids = Array.from({ length: 20 }, (_, index) => `attested-${index}`);
  for (const id of ids) await publish(id, { provenance: true });
  await publish("ordinary");
  expect(await site.deployment.nextResult()).toMatchObject({ job_id: "ordinary", worker_id: plain.id });
  for (const id of ids) expect(await stateOf(orchestrator, id)).toBe("QUEUED");

  const able = await site.deployment.startWorker(orchestrator);
  const results = [];
  while (results.length < ids.length) results.push(await site.deployment.nextResult());
  expect(results.map(({ job_id }) => job_id).toSorted()).toEqual(ids.toSorted());
  for (const { worker_id, error } of results) {
    expect(worker_id).toBe(able.id);
    expect(error?.code).toBe("REPO_NOT_FOUND");
  }
  const shown = (await shownWorkers(orchestrator)).map(({ id, capabilities }) => [id, capabilities] as const);
  const capabilities = new Map(shown);
  expect(capabilities.get(plain.id)).not.toContain("provenance");
  expect(capabilities.get(able.id)).toContain("provenance");
});

test("capabilities: a job that no worker can build fails in the end, also when another orchestrator has it by then", async () => {
  const { deployment } = site;
  // It must not fail the job itself, however long the other job takes.
  const first = await deployment.startOrchestrator({
    BLACKTREE_UNSUPPORTED_AFTER: "1h",
    BLACKTREE_GRPC_LISTEN: `127.0.0.1:${await freePort()}`,
  });
  const worker = await startPlainWorker(first);
  await publish("attested", { provenance: true });
  await first.process.waitForLine(/"attested".*"msg":"job queued"/);
  await publish("ordinary");
  expect((await deployment.nextResult()).job_id).toBe("ordinary");
  await waitFor(async () => (await deployment.redisContents()).includes("incapable:attested"), {
    timeoutMs: 30_000,
    what: "the job to be reported as needing another worker",
  });
  await first.process.kill();

  const second = await deployment.startOrchestrator({
    BLACKTREE_UNSUPPORTED_AFTER: "3s",
    BLACKTREE_GRPC_LISTEN: first.grpcAddress,
  });
  await untilFree(second, worker);
  const result = await deployment.nextResult();
  expect(result).toMatchObject({
    job_id: "attested",
    status: "FAILED",
    attempt: 0,
    worker_id: null,
    error: { code: "UNSUPPORTED", step: "dispatch", retryable: false },
  });
  expect(result.error?.message).toContain("it needs provenance");
});

test("capabilities: a job whose region has no worker keeps waiting", async () => {
  const { deployment } = site;
  const orchestrator = await deployment.startOrchestrator({
    BLACKTREE_UNSUPPORTED_AFTER: "1s",
  });
  await startPlainWorker(orchestrator);
  await publish("far", { provenance: true, worker_region: "ap-south-1", region_policy: "require" });
  await publish("near", { provenance: true });
  expect(await deployment.nextResult()).toMatchObject({ job_id: "near", error: { code: "UNSUPPORTED" } });
  expect(await stateOf(orchestrator, "far")).toBe("QUEUED");
});

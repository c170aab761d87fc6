/** One of two orchestrators loses only Redis or only the workers: the other one gets all jobs, at once and unharmed. */
import { expect, test } from "bun:test";
import type { JobResult } from "../../../src/shared/job.ts";
import { readiness, SHORT_LEASE } from "../../support/blacktree/deployment.ts";
import { expectNothingLeft, faultSite, sampleJob } from "../../support/blacktree/fault-site.ts";
import { type CertificateFiles, makeCertificates } from "../../support/machine/certificates.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { startTcpProxy } from "../../support/servers/tcp-proxy.ts";

const site = faultSite();

async function results(count: number): Promise<JobResult[]> {
  const all: JobResult[] = [];
  while (all.length < count) all.push(await site.deployment.nextResult());
  return all;
}

const byId = (one: { job_id: string }, other: { job_id: string }) => one.job_id.localeCompare(other.job_id);

test("partial loss: without its Redis, an orchestrator returns all messages that it has received, and recovers by itself", async () => {
  const deployment = await site.deploy();
  const redisUrl = new URL(deployment.orchestratorEnv.REDIS_URL ?? "");
  const toRedis = await startTcpProxy({ port: Number(redisUrl.port) });
  redisUrl.port = String(toRedis.port);
  try {
    const [cutOff, healthy] = await Promise.all([
      deployment.startOrchestrator({ REDIS_URL: redisUrl.href }),
      deployment.startOrchestrator(),
    ]);
    await deployment.startWorker(healthy);
    toRedis.cut();
    await waitFor(async () => !(await readiness(cutOff)).ok, { timeoutMs: 30_000, what: "the loss" });
    expect(await (await readiness(cutOff)).json()).toMatchObject({ checks: { rabbitmq: "ok" } });

    // More than an orchestrator receives at once. Invalid ones need no worker.
    const ids = Array.from({ length: 100 }, (_, index) => `invalid-${String(index).padStart(3, "0")}`);
    for (const job_id of ids) await deployment.publish({ job_id });
    const job = await sampleJob(site.backends, { variant: "working" });
    await deployment.publish(job);
    const ended = (await results(ids.length + 1)).sort(byId);
    expect(ended.map(({ job_id }) => job_id)).toEqual([...ids, job.job_id].sort());
    expect(ended.filter(({ job_id }) => job_id === job.job_id)).toMatchObject([
      { status: "SUCCESS", attempt: 1 },
    ]);
    await cutOff.process.waitForLine("job records and leases unavailable;", { timeoutMs: 30_000 });

    toRedis.heal();
    await cutOff.process.waitForLine("job records and leases available again", { timeoutMs: 30_000 });
    await healthy.process.stop();
    await deployment.publish({ job_id: "later" });
    expect(await results(1)).toMatchObject([{ job_id: "later", status: "FAILED" }]);
  } finally {
    await toRedis.stop();
  }
});

test("partial loss: an orchestrator that the workers reject assigns no job to them", async () => {
  const deployment = await site.deploy();
  const folder = await makeTempDir("partial-loss");
  try {
    const { caPath, server, client, foreign } = await makeCertificates(folder.path);
    const tls = ({ certPath, keyPath }: CertificateFiles) => ({
      BLACKTREE_TLS_CA: caPath,
      BLACKTREE_TLS_CERT: certPath,
      BLACKTREE_TLS_KEY: keyPath,
    });
    const [rejected, healthy] = await Promise.all([
      deployment.startOrchestrator({ ...SHORT_LEASE, ...tls(foreign.client) }),
      deployment.startOrchestrator({ ...SHORT_LEASE, ...tls(server) }),
    ]);
    const worker = await deployment.startWorker(healthy, { ...tls(client), BLACKTREE_WORKER_SLOTS: "2" });
    const jobs = await Promise.all(
      Array.from({ length: 6 }, () => sampleJob(site.backends, { variant: "working" })),
    );
    for (const job of jobs) await deployment.publish(job);
    const ended = (await results(jobs.length)).sort(byId);
    expect(ended.map(({ job_id }) => job_id)).toEqual(jobs.map(({ job_id }) => job_id).sort());
    for (const result of ended)
      expect(result).toMatchObject({ status: "SUCCESS", attempt: 1, worker_id: worker.id });
    await rejected.process.waitForLine("this orchestrator reaches none of the live workers", {
      timeoutMs: 30_000,
    });
    expect(rejected.process.lines.filter((line) => line.includes('"msg":"job assigned"'))).toEqual([]);
    await expectNothingLeft(deployment, healthy, rejected);
  } finally {
    await folder.remove();
  }
});

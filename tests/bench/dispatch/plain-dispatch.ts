/**
 * The least that hands jobs to a worker: a message, one call, a confirmed result. It has no leases, events, records,
 * logs or retries, and knows one worker. Arguments: URL of RabbitMQ, port of the worker, jobs at a time.
 */
import { connect } from "amqplib";
import { WorkerClient } from "../../../src/orchestrator/workers/worker-client.ts";
import { JobRequest, JobStatus } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { INCARNATION } from "../../integration/orchestrator/workers/worker-service.ts";
import { PLAIN_QUEUES } from "./queues.ts";

const [url = "", port, prefetch] = process.argv.slice(2);
const channel = await (await connect(url)).createConfirmChannel();
for (const queue of Object.values(PLAIN_QUEUES))
  await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
await channel.prefetch(Number(prefetch));
const worker = new WorkerClient(`127.0.0.1:${port}`, undefined);
const { signal } = new AbortController();

await channel.consume(PLAIN_QUEUES.jobs, async (message) => {
  if (!message) return;
  const job = JSON.parse(message.content.toString());
  const request = JobRequest.fromPartial({
    jobId: job.job_id,
    attempt: 1,
    incarnation: INCARNATION,
    repoUrl: job.repo_url,
    branch: job.branch,
    deploymentVersion: job.deployment_version,
    awsAccount: job.aws_account,
    ecrRepo: job.ecr_repo,
    region: job.region,
    timeoutMs: 60_000,
  });
  const { status } = await worker.runJob(request, signal);
  const isSuccess = status === JobStatus.JOB_STATUS_SUCCESS;
  const result = JSON.stringify({ job_id: job.job_id, status: isSuccess ? "SUCCESS" : "FAILED" });
  channel.sendToQueue(PLAIN_QUEUES.results, Buffer.from(result), { persistent: true }, () => {
    channel.ack(message);
  });
});
console.log("ready");

/** RabbitMQ's patience with unacked messages at a value that operators set, and a build that outlasts it. */
import { beforeAll, expect, test } from "bun:test";
import { untilFree, untilState } from "../../support/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/fault-site.ts";

const site = faultSite({ engine: "26.1", rabbitmq: { config: ["consumer_timeout = 60000"] } });

beforeAll(async () => {
  // RabbitMQ looks for overdue deliveries once in this time on each channel, by default once a minute: it would mostly
  // not find a delivery that is acked after a minute and a half. It is no setting of rabbitmq.conf.
  const lookEvery = "application:set_env(rabbit, channel_tick_interval, 5000).";
  await site.backends.rabbitmq.rabbitmqctl(["eval", lookEvery]);
}, 30_000);

test("broker faults: with a consumer timeout of one minute a build of 90 seconds runs once, ends in one result, and disturbs no other job", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, { BLACKTREE_WORKER_SLOTS: "2" });
  const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 90 });
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");
  const takenBack = () => linesAbout(orchestrator, job, "attaching to a running job").length;

  // One after the other, so that one runs at whatever moment the broker loses its patience, and one begins after it.
  const neighbours: SampleJob[] = [];
  let isLast = false;
  while (!isLast) {
    isLast = takenBack() > 0;
    const neighbour = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 8 });
    neighbours.push(neighbour);
    await deployment.publish(neighbour);
    await expectSuccess(site, neighbour);
  }
  await expectSuccess(site, job, { worker, timeoutMs: 90_000 });
  await untilFree(orchestrator, worker);
  expect([job, ...neighbours].map((each) => runsStarted(worker, each))).toEqual(
    [job, ...neighbours].map(() => 1),
  );
  expect(takenBack()).toBe(1);
  expect(neighbours.flatMap((each) => linesAbout(orchestrator, each, "attaching to a running job"))).toEqual(
    [],
  );
  expect(tagPuts(site, job)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
}, 180_000);

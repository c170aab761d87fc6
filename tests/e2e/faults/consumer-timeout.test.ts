/** RabbitMQ's consumer timeout is shorter than a build: with a value that operators set, and with a shorter one. */
import { expect } from "bun:test";
import { untilFree, untilState } from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holdPush,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";

const site = faultSite({ ownRabbitMq: {} });

interface Patience {
  readonly timeoutSeconds: number;
  readonly buildSeconds: number;
  readonly neighbourSeconds: number;
}

const CASES: readonly Patience[] = [
  { timeoutSeconds: 20, buildSeconds: 32, neighbourSeconds: 4 },
  { timeoutSeconds: 60, buildSeconds: 90, neighbourSeconds: 8 },
];

for (const [index, { timeoutSeconds, buildSeconds, neighbourSeconds }] of CASES.entries()) {
  const name = `broker faults: with a consumer timeout of ${timeoutSeconds} s a build of ${buildSeconds} s runs once, ends in one result, and disturbs no other job`;
  inFullCheck(index > 0).test(
    name,
    async () => {
      // By default a channel is checked once a minute, which would mostly miss a delivery that is acked half a timeout
      // too late.
      await site.backends.rabbitmq.setConsumerTimeout(timeoutSeconds * 1000, timeoutSeconds * 100);
      const deployment = await site.deploy();
      const orchestrator = await deployment.startOrchestrator();
      const worker = await deployment.startWorker(orchestrator, { BLACKTREE_WORKER_SLOTS: "2" });
      const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: buildSeconds });
      // On a busy machine it would otherwise end before the last neighbour.
      const held = site.keep(holdPush(site.backends, job));
      await deployment.publish(job);
      await untilState(orchestrator, job.job_id, "BUILDING");
      const revocations = () => linesAbout(orchestrator, job, "attaching to a running job").length;

      // One after the other, so that one runs when the broker revokes the delivery, and one begins afterwards.
      const neighbours: SampleJob[] = [];
      /** Those whose own delivery was not held for as long as the timeout. */
      const timely: SampleJob[] = [];
      let isLast = false;
      while (!isLast) {
        isLast = revocations() > 0;
        const neighbour = await sampleJob(site.backends, { variant: "slow", sleepSeconds: neighbourSeconds });
        neighbours.push(neighbour);
        const publishedAtMs = performance.now();
        await deployment.publish(neighbour);
        await expectSuccess(site, neighbour);
        if (performance.now() - publishedAtMs < timeoutSeconds * 1000) timely.push(neighbour);
      }
      held.release();
      await expectSuccess(site, job, { worker, timeoutMs: 2 * buildSeconds * 1000 });
      await untilFree(orchestrator, worker);
      expect([job, ...neighbours].map((each) => runsStarted(worker, each))).toEqual(
        [job, ...neighbours].map(() => 1),
      );
      expect(revocations()).toBeGreaterThan(0);
      expect(timely.flatMap((each) => linesAbout(orchestrator, each, "attaching to a running job"))).toEqual(
        [],
      );
      expect(tagPuts(site, job)).toHaveLength(1);
      await expectNothingLeft(deployment, orchestrator);
    },
    600_000,
  );
}

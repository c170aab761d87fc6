/** Orchestrators whose clock differs from that of Redis: leases are decided by one clock, and builds keep their workers. */
import { expect } from "bun:test";
import { untilState } from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holdPush,
  linesAbout,
  runsStarted,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";
import { fakeClock } from "../../support/machine/fake-clock.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const site = faultSite();
/** With a shorter one, a worker or an orchestrator that pauses briefly counts as lost. */
const LEASE_TTL_MS = 6000;
const TESTED_LEASE_TIMES = 2.5;

for (const { offset, isFullOnly } of [
  { offset: "+12s", isFullOnly: false },
  { offset: "-12s", isFullOnly: true },
  { offset: "+2y", isFullOnly: true },
  { offset: "-2y", isFullOnly: true },
]) {
  inFullCheck(isFullOnly).test(
    `clocks: an orchestrator at ${offset} of Redis does not lose the worker of a long build`,
    async () => {
      const clock = await fakeClock(offset);
      const deployment = await site.deploy();
      const lease = { BLACKTREE_LEASE_TTL: `${LEASE_TTL_MS}ms`, BLACKTREE_PING_INTERVAL: "500ms" };
      const orchestrator = await deployment.startOrchestrator({ ...clock, ...lease });
      const worker = await deployment.startWorker(orchestrator);
      const job = await sampleJob(site.backends);
      const held = site.keep(holdPush(site.backends, job));
      await deployment.publish(job);
      await untilState(orchestrator, job.job_id, "BUILDING");
      await held.arrived;
      const heldAtMs = performance.now();
      // What is tested is that nothing happens during these lease times.
      await waitFor(() => performance.now() - heldAtMs > TESTED_LEASE_TIMES * LEASE_TTL_MS, {
        timeoutMs: 60_000,
        what: "some lease times",
      });
      // Without pings the worker registers again after every lease time. A busy machine may cause a pause, too.
      const pauses = worker.process.lines.filter((line) => line.includes("no ping for a lease time"));
      expect(pauses.length).toBeLessThan(2);
      expect(linesAbout(orchestrator, job, "worker lost")).toEqual([]);
      await orchestrator.process.waitForLine("the clocks of Redis and this machine differ");
      held.release();
      await expectSuccess(site, job, { worker });
      expect(runsStarted(worker, job)).toBe(1);
      await expectNothingLeft(deployment, orchestrator);
    },
  );
}

/** Whole logs at several orchestrators, which are killed and restarted. */
import { expect } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import { type OrchestratorProcess, untilState } from "../support/blacktree/deployment.ts";
import {
  anyOf,
  expectSuccess,
  faultSite,
  holdPush,
  type SampleJob,
} from "../support/blacktree/fault-site.ts";
import { LogFollower } from "../support/blacktree/log-follower.ts";
import { jobPrinting, LINE_BYTES, UNLIMITED_OUTPUT } from "../support/blacktree/printing-job.ts";
import { inFullCheck } from "../support/machine/full-check.ts";
import { peakResidentBytes } from "../support/machine/process-memory.ts";
import { makeTempDir } from "../support/machine/temp-dir.ts";
import { waitFor } from "../support/machine/wait-for.ts";

const site = faultSite({ ownDocker: UNLIMITED_OUTPUT });

const NAMES = ["first", "second", "third"] as const;

interface Sites {
  readonly of: Map<string, OrchestratorProcess>;
  /** Also again, on the same log folder. */
  start(name: string): Promise<OrchestratorProcess>;
  remove(): Promise<void>;
}

async function startOrchestrators(): Promise<Sites> {
  const deployment = await site.deploy();
  const folder = await makeTempDir("logs");
  const of = new Map<string, OrchestratorProcess>();
  const start = async (name: string) => {
    const path = join(folder.path, name);
    await mkdir(path, { recursive: true });
    const orchestrator = await deployment.startOrchestrator({ BLACKTREE_LOG_DIR: path });
    of.set(name, orchestrator);
    return orchestrator;
  };
  for (const name of NAMES) await start(name);
  return { of, start, remove: () => folder.remove() };
}

const at = ({ of }: Sites, name: string): OrchestratorProcess => {
  const orchestrator = of.get(name);
  if (!orchestrator) throw new Error(`no orchestrator ${name}`);
  return orchestrator;
};

async function kill({ process }: OrchestratorProcess): Promise<void> {
  process.signal("SIGKILL");
  await process.exited;
}

const described = ({ log: { bytes, lines, sha256 } }: JobResult) => ({ bytes, lines, sha256 });

async function download({ apiUrl }: OrchestratorProcess, { job_id }: SampleJob): Promise<Response> {
  return apiRequest(apiUrl, `/api/v1/jobs/${job_id}/logs?format=raw`);
}

async function expectWhole(
  orchestrator: OrchestratorProcess,
  job: SampleJob,
  result: JobResult,
): Promise<void> {
  // An orchestrator that has just started may not know the others yet.
  const response = await waitFor(
    async () => {
      const answer = await download(orchestrator, job);
      return answer.ok ? answer : undefined;
    },
    { timeoutMs: 60_000, what: "the log to be found" },
  );
  const bytes = new Uint8Array(await response.arrayBuffer());
  const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  expect({ bytes: bytes.length, sha256 }).toEqual({ bytes: result.log.bytes, sha256: result.log.sha256 });
}

declare({ followers: 10, lines: 10_000, isFull: false });
declare({ followers: 100, lines: 200_000, isFull: true });

function declare({ followers, lines, isFull }: { followers: number; lines: number; isFull: boolean }): void {
  const size = `${(lines * LINE_BYTES) / 1e6} MB`;
  inFullCheck(isFull).test(
    `${followers} followers of a log of ${size} get every line once, although their orchestrator is killed and others are restarted`,
    async () => {
      const sites = await startOrchestrators();
      try {
        const worker = await site.deployment.startWorker(anyOf(...sites.of.values()), {
          BLACKTREE_LOG_LIMIT: "1GB",
        });
        if (isFull) {
          const unfollowed = await jobPrinting(site.backends, lines);
          await site.deployment.publish(unfollowed);
          await expectSuccess(site, unfollowed, { timeoutMs: 300_000 });
        }
        /** Of the orchestrators that are not killed while the log is followed. */
        const memoryOf = async () => {
          const peaks = ["second", "third"].map((name) => peakResidentBytes(at(sites, name).process));
          return Math.max(...(await Promise.all(peaks)));
        };
        const before = await memoryOf();

        const job = await jobPrinting(site.backends, lines);
        // The log does not end before the orchestrator is killed.
        const held = site.keep(holdPush(site.backends, job));
        await site.deployment.publish(job);
        const urlOf = (name: string) => at(sites, name).apiUrl;
        await untilState(at(sites, "first"), job.job_id, "BUILDING");
        const all = Array.from({ length: followers }, () => new LogFollower(job.job_id));
        const read = all.map((follower, index) =>
          // Only the first orchestrator is killed while it is followed.
          follower.readFrom(() => (index % 2 === 0 ? [urlOf("first"), urlOf("second")] : [urlOf("second")])),
        );
        await waitFor(() => all.every((follower) => follower.lines > 0), {
          timeoutMs: 120_000,
          what: "lines",
        });
        await kill(at(sites, "first"));
        held.release();
        const result = await expectSuccess(site, job, { attempt: "any", worker, timeoutMs: 600_000 });
        await Promise.all(read);
        for (const follower of all) expect(follower.described()).toEqual(described(result));
        expect(all.some((follower) => follower.reconnects > 0)).toBe(true);
        // A part of all that the followers have read: memory does not grow with the log. Most of it is not collected yet.
        if (isFull) expect((await memoryOf()) - before).toBeLessThan((followers * lines * LINE_BYTES) / 5);

        await sites.start("first");
        const isStored = async () =>
          (await Promise.all(NAMES.map((name) => isWholeAt(at(sites, name))))).every(Boolean);
        const isWholeAt = async (orchestrator: OrchestratorProcess) => {
          const response = await download(orchestrator, job);
          return response.ok && (await response.arrayBuffer()).byteLength === result.log.bytes;
        };
        await waitFor(isStored, { timeoutMs: 120_000, what: "the log at every orchestrator" });
        // The worker has acknowledged the run, and each orchestrator finds the log that one of them has.
        await worker.process.stop();
        for (const name of NAMES) {
          await kill(at(sites, name));
          await sites.start(name);
        }
        for (const name of NAMES) await expectWhole(at(sites, name), job, result);
        const late = new LogFollower(job.job_id);
        await late.readFrom(() => [urlOf("third")]);
        expect(late.described()).toEqual(described(result));
      } finally {
        await site.deployment.stop();
        await sites.remove();
      }
    },
    isFull ? 1_800_000 : 900_000,
  );
}

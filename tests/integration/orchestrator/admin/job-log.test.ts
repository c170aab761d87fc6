/** Readers of a running job's log over real gRPC; the test defines what the worker's run prints. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { followLog, type LogEntry, type LogSources } from "../../../../src/orchestrator/admin/job-log.ts";
import { WorkerClient } from "../../../../src/orchestrator/workers/worker-client.ts";
import { JobRequest } from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { RpcServer } from "../../../../src/shared/rpc/server.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { INCARNATION, serveWorker, successfulEnd } from "../workers/worker-service.ts";

const RUN = { jobId: "job", attempt: 1 };
const STOP_GRACE_MS = 500;
/** More than a connection buffers without being read, and less than the worker keeps for readers. */
const LINES = 8000;
const LINE = "x".repeat(500);

let server: RpcServer;
let orchestrator: WorkerClient;
let sources: LogSources;
let endOfRun: PromiseWithResolvers<void>;
let readers: AbortController;

beforeEach(async () => {
  endOfRun = Promise.withResolvers();
  readers = new AbortController();
  const execute = async (_: unknown, reporter: RunReporter) => {
    reporter.state("BUILDING");
    for (let number = 0; number < LINES; number++) reporter.log(`${number} ${LINE}`);
    await endOfRun.promise;
    return successfulEnd();
  };
  server = await serveWorker(execute, { keptBytes: 64_000_000, tail: { lines: 500, bytes: 262_144 } });
  const address = `127.0.0.1:${server.port}`;
  orchestrator = new WorkerClient(address, undefined);
  sources = {
    leases: {
      find: async () => ({ ...RUN, address, incarnation: INCARNATION }),
    } as unknown as LogSources["leases"],
    records: { find: async () => undefined } as unknown as LogSources["records"],
    connectDedicated: (at) => new WorkerClient(at, undefined, { isDedicated: true }),
  };
});

afterEach(async () => {
  endOfRun.resolve();
  readers.abort(new Error("the test has ended"));
  orchestrator.close();
  await server.stop(STOP_GRACE_MS);
});

function startRun() {
  const request = JobRequest.fromPartial({
    ...RUN,
    incarnation: INCARNATION,
    repoUrl: "owner/name",
    branch: "main",
    deploymentVersion: "v1",
    awsAccount: "123456789012",
    ecrRepo: "app",
    region: "us-east-1",
    timeoutMs: 60_000,
  });
  return orchestrator.runJob(request, readers.signal);
}

function follow(): AsyncGenerator<LogEntry> {
  return followLog(sources, RUN.jobId, undefined, readers.signal);
}

/** Reads the run's lines up to the last one. */
async function allLines(): Promise<string[]> {
  const lines: string[] = [];
  for await (const { kind, text } of follow()) {
    if (kind === "line") lines.push(text);
    if (lines.length === LINES) break;
  }
  return lines;
}

test("a reader that stalls holds up neither another reader nor the run's result", async () => {
  const running = startRun();
  const stalled = follow();
  expect((await stalled.next()).value).toMatchObject({ kind: "state", text: "BUILDING" });
  const lines = await allLines();
  expect(lines).toEqual(Array.from({ length: LINES }, (_, number) => `${number} ${LINE}`));
  endOfRun.resolve();
  expect((await running).logs).toHaveLength(500);
  // It resumes at its position, with the lines that the worker still has.
  expect((await stalled.next()).value).toMatchObject({ kind: "line", text: lines[0] });
});

/** The orchestrator's calls to a worker over real gRPC; the test defines what the worker's runs do. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import { WorkerClient } from "../../../../src/orchestrator/workers/worker-client.ts";
import { RunState } from "../../../../src/shared/rpc/generated/blacktree/v1/run.ts";
import { JobRequest } from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import type { RpcServer } from "../../../../src/shared/rpc/server.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./worker-service.ts";

const STOP_GRACE_MS = 500;

let server: RpcServer;
let client: WorkerClient;
let tenants: string[];

beforeEach(async () => {
  tenants = [];
  const execute = async ({ tenant }: PipelineJob, reporter: RunReporter) => {
    tenants.push(tenant);
    reporter.state("CLONING");
    return successfulEnd();
  };
  server = await serveWorker(execute, { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } });
  client = new WorkerClient(`127.0.0.1:${server.port}`, undefined);
});

afterEach(async () => {
  client?.close();
  await server?.stop(STOP_GRACE_MS);
});

function requestOf(jobId: string): JobRequest {
  return JobRequest.fromPartial({
    jobId,
    attempt: 1,
    incarnation: INCARNATION,
    repoUrl: "owner/name",
    branch: "main",
    deploymentVersion: "v1",
    awsAccount: "123456789012",
    ecrRepo: "app",
    region: "us-east-1",
    timeoutMs: 60_000,
  });
}

async function statesOf(jobId: string, signal: AbortSignal, by = client): Promise<(RunState | undefined)[]> {
  const states: (RunState | undefined)[] = [];
  const options = { afterSeq: 0, statesOnly: true };
  for await (const event of by.watchJob({ jobId, attempt: 1 }, INCARNATION, options, signal)) {
    states.push(event.state);
  }
  return states;
}

/** Starts the run and watches it at once, as an assignment does. */
async function runAndWatch(jobId: string, by = client): Promise<(RunState | undefined)[]> {
  const ended = new AbortController();
  const running = by.runJob(requestOf(jobId), ended.signal);
  const watching = statesOf(jobId, ended.signal, by);
  await running;
  return watching;
}

const ALL_STATES = [RunState.RUN_STATE_CLONING, RunState.RUN_STATE_SUCCEEDED];

test("a run is watched from its first state on over a new connection", async () => {
  expect(await runAndWatch("first")).toEqual(ALL_STATES);
});

test("a run is watched from its first state on over an existing connection", async () => {
  await client.ping({ reachesBroker: true }, 30_000);
  for (let number = 1; number <= 20; number++) {
    const ofAssignment = new WorkerClient(client.address, undefined);
    expect(await runAndWatch(`job-${number}`, ofAssignment)).toEqual(ALL_STATES);
    ofAssignment.close();
  }
});

test("a run has the tenant of its request, by default its account", async () => {
  const { signal } = new AbortController();
  await client.runJob({ ...requestOf("named"), tenant: "acme" }, signal);
  await client.runJob(requestOf("unnamed"), signal);
  expect(tenants).toEqual(["acme", "123456789012"]);
});

test("watching a run that the worker does not have is refused", async () => {
  const watching = statesOf("unknown", new AbortController().signal);
  await expect(watching).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
});

test("watching ends when its signal aborts, also before there is a connection", async () => {
  const watcher = new AbortController();
  const states = statesOf("any", watcher.signal);
  watcher.abort(new Error("the watcher has gone away"));
  expect(await states).toEqual([]);
});

const PROXY_VARIABLES = ["http_proxy", "https_proxy", "grpc_proxy"] as const;

test.each(PROXY_VARIABLES)("no proxy leads to a worker on this machine, whatever %s is", async (name) => {
  const before = process.env[name];
  // Nothing listens there.
  process.env[name] = "http://127.0.0.1:1";
  const proxied = new WorkerClient(client.address, undefined);
  try {
    expect(await proxied.ping({ reachesBroker: true }, 30_000)).toMatchObject({ incarnation: INCARNATION });
  } finally {
    proxied.close();
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
});

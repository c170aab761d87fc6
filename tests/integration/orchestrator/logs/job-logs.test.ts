/** Two orchestrators and a worker over real gRPC; the test defines what the worker's runs print. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { EventSourceMessage } from "eventsource-parser/stream";
import type { RunReporter } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import { useAwsEnvironment } from "../../../support/machine/aws-environment.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../../support/servers/redis.ts";
import { startS3Server } from "../../../support/servers/versitygw.ts";
import { type OrchestratorSite, startOrchestratorSite } from "../orchestrator-site.ts";
import { INCARNATION, type ServedWorker, serveWorker, successfulEnd } from "../workers/worker-service.ts";
import { describeLog, followedEvents, linesOf, logOf, logRequest, stalledFollower } from "./log-client.ts";

const LOG_LIMITS = { keptBytes: 64_000_000, tail: { lines: 10, bytes: 1000 } };
const FIRST = Array.from(
  { length: 3000 },
  (_, number) => `${number} first é \u202e 漢字 \t ${"x".repeat(50)}`,
);
const REST = Array.from({ length: 3000 }, (_, number) => `${number} rest`);
const TEXT = [...FIRST, ...REST].map((line) => `${line}\n`).join("");

let brokers: RabbitMqServer[];
let redis: Redis;
let worker: ServedWorker;
let folders: TempDir[];
let sites: (OrchestratorSite | undefined)[];
/** The run prints its second half, and ends, when this resolves. */
let goOn: PromiseWithResolvers<void>;
let attempts: number;
let retries: number;
/** Each run of the worker. */
let execute: (reporter: RunReporter) => Promise<RunEnd>;

beforeEach(async () => {
  [goOn, attempts, retries, sites, execute] = [Promise.withResolvers(), 0, 0, [], runOf];
  redis = await startRedis();
  brokers = await Promise.all([borrowRabbitMq(), borrowRabbitMq()]);
  folders = await Promise.all([makeTempDir("logs"), makeTempDir("logs")]);
  worker = await serveWorker(async (_, reporter) => execute(reporter), LOG_LIMITS);
});

afterEach(async () => {
  goOn.resolve();
  await Promise.all(sites.map((site) => site?.stop()));
  await worker?.stop(100);
  await Promise.all([redis, ...brokers].map((server) => server?.stop()));
  await Promise.all(folders.map((folder) => folder.remove()));
});

async function runOf(reporter: RunReporter): Promise<RunEnd> {
  attempts += 1;
  reporter.state("BUILDING");
  if (attempts <= retries) {
    reporter.log(`attempt ${attempts} fails`);
    return failedEnd();
  }
  for (const line of FIRST) reporter.log(line);
  await goOn.promise;
  for (const line of REST) reporter.log(line);
  return successfulEnd();
}

function failedEnd(): RunEnd {
  const failure = { code: "DISK_FULL", step: "build", retryable: true, message: "full" } as const;
  return { ...successfulEnd(), status: "FAILED", failure };
}

/** The first one gets the jobs; both have the same Redis. */
async function startSite(index: 0 | 1, environment: Record<string, string> = {}): Promise<OrchestratorSite> {
  const rabbitMqUrl = brokers[index]?.url ?? "";
  const site = await startOrchestratorSite(
    { rabbitMqUrl, redisUrl: redis.url },
    {
      BLACKTREE_LOG_DIR: folders[index]?.path ?? "",
      BLACKTREE_PING_INTERVAL: "500ms",
      ...environment,
    },
  );
  sites[index] = site;
  return site;
}

async function stopSite(index: 0 | 1): Promise<void> {
  await sites[index]?.stop();
  sites[index] = undefined;
}

async function startBoth(
  environment: Record<string, string> = {},
): Promise<[OrchestratorSite, OrchestratorSite]> {
  const [first, second] = [await startSite(0, environment), await startSite(1, environment)];
  await first.addWorker("worker", INCARNATION, worker.port);
  return [first, second];
}

function untilKept(index: 0 | 1, name: string): Promise<unknown> {
  const folder = join(folders[index]?.path ?? "", "kept", "tenant-123456789012");
  const namesIn = (path: string): Promise<string[]> => readdir(path).catch(() => []);
  const isKept = async () => (await namesIn(folder)).includes(`${name}.jsonl`);
  return waitFor(isKept, { timeoutMs: 60_000, what: `the log of ${name} to be kept` });
}

test("the whole log is the same at every orchestrator: of a running job what there is, later all of it", async () => {
  const [first, second] = await startBoth();
  const result = first.run("job");
  const printed = FIRST.map((line) => `${line}\n`).join("");
  const raw = async (site: OrchestratorSite) =>
    (await logRequest(site.adminUrl, "job", "?format=raw")).text();
  await waitFor(async () => (await raw(second)) === printed, { timeoutMs: 60_000, what: "the first half" });
  goOn.resolve();
  const expected = logOf(await result);
  expect(describeLog(TEXT)).toEqual(expected);
  expect(describeLog(await raw(second))).toEqual(expected);
  await untilKept(0, "job.1");
  await waitFor(() => worker.runs.held().length === 0, {
    timeoutMs: 60_000,
    what: "the run to be acknowledged",
  });
  for (const site of [first, second]) {
    expect(describeLog(await raw(site))).toEqual(expected);
    const text = await (await logRequest(site.adminUrl, "job")).text();
    expect(text).toBe(TEXT.replaceAll("\u202e", "<U+202E>"));
    const json = await logRequest(site.adminUrl, "job", "?format=json");
    const entries = (await json.text())
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(entries).toHaveLength(FIRST.length + REST.length + 2);
    expect(entries.at(-1)).toMatchObject({ seq: entries.length, state: "SUCCEEDED" });
    const found = await logRequest(site.adminUrl, "job", "?grep=99+REST&ignore_case=true&tail=2");
    expect(await found.text()).toBe("2899 rest\n2999 rest\n");
  }
  // Its orchestrator does not answer any more.
  await stopSite(0);
  const unreachable = await logRequest(second.adminUrl, "job");
  expect(unreachable.status).toBe(503);
  const { detail } = (await unreachable.json()) as { detail: string };
  expect(detail).toContain("which does not run");
  expect(detail).toContain("?source=result");
  const tail = await logRequest(second.adminUrl, "job", "?source=result");
  expect(await tail.text()).toBe(
    REST.slice(-10)
      .map((line) => `${line}\n`)
      .join(""),
  );
});

test("a followed log resumes exactly at another orchestrator, after a restart, after the end, and across attempts", async () => {
  retries = 1;
  const [first, second] = await startBoth();
  first.submit("job");
  const isKnown = async () => (await logRequest(first.adminUrl, "job", "?attempt=1")).ok;
  await waitFor(isKnown, { timeoutMs: 60_000, what: "the first attempt" });
  const untilId = (last: string) => ({ isLast: ({ id }: { readonly id?: string }) => id === last });
  const events = await followedEvents(first.adminUrl, "job", { query: "&attempt=1", ...untilId("2.1500") });
  await stopSite(0);
  events.push(...(await followedEvents(second.adminUrl, "job", { after: "2.1500", ...untilId("2.2500") })));
  goOn.resolve();
  const restarted = await startSite(0);
  const result = await restarted.nextResult();
  events.push(...(await followedEvents(restarted.adminUrl, "job", { after: "2.2500" })));
  expect(events.at(-1)).toMatchObject({ event: "end", data: "SUCCEEDED" });
  const ofSecond = events.filter(({ id }) => id?.startsWith("2."));
  expect(describeLog(linesOf(ofSecond))).toEqual(logOf(result));
  expect(linesOf(events)).toBe(`attempt 1 fails\n${TEXT}`);
  expect(events.filter(({ event }) => event === "state").map(({ data }) => data)).toEqual([
    "BUILDING",
    "FAILED",
    "BUILDING",
    "SUCCEEDED",
  ]);
  await untilKept(0, "job.2");
  const isReachable = async () => (await logRequest(second.adminUrl, "job", "?attempt=1")).ok;
  await waitFor(isReachable, { timeoutMs: 60_000, what: "the address of the restarted orchestrator" });
  // Whole again, from an attempt before the last one, at the orchestrator that has neither.
  const again = await followedEvents(second.adminUrl, "job", { after: "1.1" });
  expect(again.map(({ id }) => id)).toEqual(events.slice(1).map(({ id }) => id));
  const last = events.at(-1)?.id ?? "";
  expect(await followedEvents(second.adminUrl, "job", { after: last })).toEqual(events.slice(-1));
  expect(linesOf(await followedEvents(second.adminUrl, "job", { query: "&tail=2" }))).toBe(
    "2998 rest\n2999 rest\n",
  );
  const bad = await logRequest(second.adminUrl, "job", "?follow=true", {
    headers: { "last-event-id": "two" },
  });
  expect(bad.status).toBe(400);
  expect(await bad.text()).toContain("<attempt>.<seq>");
});

test("the log of a run that a dead orchestrator has released is copied by another one, once", async () => {
  const [first, second] = await startBoth();
  // The first one dies after the copy, and before the worker has its acknowledgement.
  worker.runs.acknowledge = () => {
    throw new Error("the first orchestrator is dead");
  };
  const { acknowledge } = Object.getPrototypeOf(worker.runs) as typeof worker.runs;
  goOn.resolve();
  await first.run("job");
  await untilKept(0, "job.1");
  await stopSite(0);
  worker.runs.acknowledge = acknowledge;
  await waitFor(() => worker.runs.held().length === 0, {
    timeoutMs: 60_000,
    what: "the run to be acknowledged",
  });
  expect(second.log.filter((line) => line.includes("another orchestrator has left"))).toEqual([]);
});

test("a line reaches the followers at every orchestrator before the run prints the next one", async () => {
  const lines = Array.from({ length: 50 }, (_, number) => `line ${number}`);
  const received = lines.map(() => Promise.withResolvers<void>());
  const followers = 4;
  const counts = lines.map(() => 0);
  execute = async (reporter) => {
    for (const [number, line] of lines.entries()) {
      reporter.log(line);
      await received[number]?.promise;
    }
    return successfulEnd();
  };
  const sites = await startBoth();
  sites[0].submit("job");
  const isKnown = async () => (await logRequest(sites[1].adminUrl, "job", "?attempt=1")).ok;
  await waitFor(isKnown, { timeoutMs: 60_000, what: "the first attempt" });
  const onLine = (number: number) => {
    counts[number] = (counts[number] ?? 0) + 1;
    if (counts[number] === followers) received[number]?.resolve();
  };
  const isLast = ({ event = "", data }: EventSourceMessage) => {
    if (event === "line") onLine(lines.indexOf(data));
    return event === "end";
  };
  const all = await Promise.all(
    Array.from({ length: followers }, (_, index) =>
      followedEvents(sites[index % 2]?.adminUrl ?? "", "job", { isLast }),
    ),
  );
  for (const events of all) expect(linesOf(events)).toBe(lines.map((line) => `${line}\n`).join(""));
});

test("a reader that stalls delays neither the run nor other readers, and gets the rest of the log later", async () => {
  const block = "x".repeat(500);
  const count = 40_000;
  const begun = Promise.withResolvers<void>();
  execute = async (reporter) => {
    reporter.log("first");
    await begun.promise;
    for (let number = 0; number < count; number += 1) {
      reporter.log(`${number} ${block}`);
      if (number % 500 === 0) await setImmediate();
    }
    return successfulEnd();
  };
  const [first, second] = await startBoth();
  const result = first.run("job");
  const isKnown = async () => (await logRequest(second.adminUrl, "job", "?attempt=1")).ok;
  await waitFor(isKnown, { timeoutMs: 60_000, what: "the first attempt" });
  const stalled = await Promise.all([first, second].map((site) => stalledFollower(site.adminUrl, "job")));
  const followed = [first, second].map((site) => followedEvents(site.adminUrl, "job"));
  begun.resolve();
  const log = logOf(await result);
  expect(log.lines).toBe(count + 1);
  for (const events of await Promise.all(followed)) expect(describeLog(linesOf(events))).toEqual(log);
  await untilKept(0, "job.1");
  await waitFor(() => worker.runs.held().length === 0, {
    timeoutMs: 60_000,
    what: "the run to be acknowledged",
  });
  for (const follower of stalled) {
    // The rest waits elsewhere than in buffers of the API and of the connection.
    expect(follower.receivedBytes).toBeLessThan(1_000_000);
    expect(describeLog(linesOf(await follower.readOn()))).toEqual(log);
  }
});

inFullCheck().test(
  "logs in a bucket are read by every orchestrator, also while the one that had them does not run",
  async () => {
    const server = await startS3Server();
    const restore = useAwsEnvironment(server.environment());
    try {
      const environment = { BLACKTREE_LOG_STORE: `s3://${server.bucket}/logs` };
      const [first, second] = await startBoth(environment);
      goOn.resolve();
      const result = await first.run("job");
      const pending = join(folders[0]?.path ?? "", "pending", "tenant-123456789012");
      await untilKept(0, "job.1");
      const isUploaded = async () => (await readdir(pending)).length === 0;
      await waitFor(isUploaded, { timeoutMs: 60_000, what: "the upload" });
      await stopSite(0);
      const raw = await logRequest(second.adminUrl, "job", "?format=raw");
      expect(describeLog(await raw.text())).toEqual(logOf(result));
      const rest = await followedEvents(second.adminUrl, "job", { after: "1.6000" });
      expect(rest.map(({ data }) => data)).toEqual(["2999 rest", "SUCCEEDED", "SUCCEEDED"]);
    } finally {
      restore();
      await Promise.all([stopSite(0), stopSite(1)]);
      await server.stop();
    }
  },
);

/** Requests are passed directly to the admin app, without a socket, unless a test needs a client that disconnects. */
import { describe, expect, test } from "bun:test";
import pino from "pino";
import { createAdminApp } from "../../../../src/orchestrator/admin/app.ts";
import type { AdminParts } from "../../../../src/orchestrator/admin/parts.ts";
import { serveAdmin } from "../../../../src/orchestrator/admin/server.ts";
import { LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import { LogMissing } from "../../../../src/orchestrator/logs/attempt-log.ts";
import type { JobLogs, LoggedJob, LogPosition } from "../../../../src/orchestrator/logs/job-logs.ts";
import { aborted } from "../../../../src/shared/abort.ts";
import type { JournalEntry } from "../../../../src/shared/log-journal.ts";
import { sampleResult } from "../../../integration/orchestrator/sample-result.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

const at = "2026-01-02T03:04:05Z";
const STEP = { number: 1, name: "[1/2] FROM scratch", started_at: at };
const JOURNAL: readonly JournalEntry[] = [
  { seq: 1, at, state: "BUILDING" },
  { seq: 2, at, line: "one\u202e" },
  { seq: 3, at, step: STEP },
  { seq: 4, at, line: "Two" },
  { seq: 5, at, line: "two with a\rreturn" },
  { seq: 6, at, state: "FAILED" },
];

interface Fakes {
  readonly find?: JobLogs["find"];
  readonly read?: JobLogs["read"];
  readonly follow?: JobLogs["follow"];
  readonly checkEnd?: JobLogs["checkEnd"];
  readonly heartbeatMs?: number;
}

async function* journal(afterSeq = 0): AsyncGenerator<readonly JournalEntry[]> {
  for (const entry of JOURNAL) if (entry.seq > afterSeq) yield [entry];
}

function failing(error: Error): () => AsyncGenerator<never> {
  return async function* () {
    yield* [];
    throw error;
  };
}

/** Counts the journals that are being read. */
function openJournals() {
  const opened = { count: 0, total: 0, read };
  async function* read(): AsyncGenerator<readonly JournalEntry[]> {
    opened.count += 1;
    opened.total += 1;
    try {
      yield* journal();
    } finally {
      opened.count -= 1;
    }
  }
  return opened;
}

const started: LogPosition[] = [];

async function* followed(_: string, start: LogPosition): ReturnType<JobLogs["follow"]> {
  started.push(start);
  yield { kind: "entries", position: { attempt: 2, seq: 6 }, entries: JOURNAL };
  yield { kind: "end", position: { attempt: 2, seq: 6 }, state: "FAILED" };
}

function appWith({ heartbeatMs, ...fakes }: Fakes = {}, logged: string[] = []) {
  const result = { ...sampleResult("job"), attempt: 2, logs: ["last", "lines"] };
  const logs = {
    find: async (jobId: string) =>
      jobId === "job" ? { jobId, latestAttempt: 2, record: { result, events: [] } } : undefined,
    read: (_: unknown, __: number, { afterSeq }: { afterSeq: number }) => journal(afterSeq),
    follow: followed,
    checkEnd: async () => undefined,
    ...fakes,
  };
  return createAdminApp({
    logs,
    names: { queue: "rabbitmq", leases: "redis" },
    hosts: [],
    token: "token",
    listen: { host: "127.0.0.1", port: 8080 },
    heartbeatMs,
    logger: pino({}, { write: (line: string) => void logged.push(line) }),
  } as unknown as AdminParts);
}

function request(
  query: string,
  fakes: Fakes = {},
  init: RequestInit = {},
  logged: string[] = [],
  app = appWith(fakes, logged),
): Promise<Response> {
  const headers = { host: "127.0.0.1:8080", authorization: "Bearer token", ...(init.headers as object) };
  const url = `http://127.0.0.1:8080/api/v1/jobs/job/logs${query}`;
  return Promise.resolve(app.request(url, { ...init, headers }, { clientAddress: "192.0.2.1" }));
}

async function problemOf(response: Response): Promise<{ status: number; detail: string }> {
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  return (await response.json()) as { status: number; detail: string };
}

describe("a log", () => {
  const whole = "one\u202e\nTwo\ntwo with a\rreturn\n";

  test.each([
    ["", "text/plain; charset=UTF-8", "one<U+202E>\nTwo\ntwo with a<U+000D>return\n"],
    ["?format=raw", "application/octet-stream", whole],
    ["?format=json", "application/x-ndjson", JOURNAL.map((entry) => `${JSON.stringify(entry)}\n`).join("")],
    ["?grep=two", "text/plain; charset=UTF-8", "two with a<U+000D>return\n"],
    ["?grep=TWO&ignore_case=true&format=raw", "application/octet-stream", "Two\ntwo with a\rreturn\n"],
    ["?grep=.wo", "text/plain; charset=UTF-8", ""],
    ["?tail=1&format=raw", "application/octet-stream", "two with a\rreturn\n"],
    ["?tail=9&format=raw", "application/octet-stream", whole],
    ["?tail=1&grep=wo&format=raw", "application/octet-stream", "two with a\rreturn\n"],
    ["?tail=1&grep=absent", "text/plain; charset=UTF-8", ""],
    ["?source=result", "text/plain; charset=UTF-8", "last\nlines\n"],
    ["?source=result&tail=1", "text/plain; charset=UTF-8", "lines\n"],
  ])("%j is sent as %s", async (query, type, body) => {
    const response = await request(query);
    expect(response.headers.get("content-type")).toBe(type);
    expect(await response.text()).toBe(body);
  });

  test("is saved under the name of its attempt", async () => {
    const response = await request("?format=raw");
    expect(response.headers.get("content-disposition")).toBe('attachment; filename="job.2.log"');
    const head = await request("?format=raw", {}, { method: "HEAD" });
    expect([head.status, head.headers.get("content-type"), await head.text()]).toEqual([
      200,
      "application/octet-stream",
      "",
    ]);
  });

  test.each([
    ["?attempt=0", "attempt"],
    ["?attempt=x", "attempt"],
    ["?tail=0", "tail"],
    ["?tail=100001", "tail"],
    ["?grep=", "grep"],
    [`?grep=${"x".repeat(1001)}`, "grep"],
    ["?format=xml", "format"],
    ["?follow=yes", "follow"],
    ["?follow=true&format=raw", "format"],
    ["?follow=true&source=result", "source"],
  ])("%j is refused", async (query, field) => {
    const { status, detail } = await problemOf(await request(query));
    expect(status).toBe(400);
    expect(detail).toContain(field);
  });

  test("of an attempt that does not exist is not found", async () => {
    expect(await problemOf(await request("?attempt=3"))).toMatchObject({
      status: 404,
      detail: "expected 1 to 2",
    });
  });

  test.each([
    ["&attempt=1", { attempt: 2 }, "the job's result has only lines of attempt 2"],
    ["", undefined, "the job has no result yet"],
    ["", null, "the job's record has expired, and its result with it"],
  ])("?source=result%s of a job with the result %p is not found", async (query, result, detail) => {
    const record = result === null ? undefined : { result, events: [] };
    const find = async (jobId: string) => ({ jobId, latestAttempt: 2, record }) as unknown as LoggedJob;
    expect(await problemOf(await request(`?source=result${query}`, { find }))).toMatchObject({
      status: 404,
      detail,
    });
  });

  test.each([
    [true, 503],
    [false, 404],
  ])(
    "that cannot be read is answered with the reason and what there is instead",
    async (isTemporary, status) => {
      const response = await request("", { read: failing(new LogMissing("the disk was full", isTemporary)) });
      const problem = await problemOf(response);
      expect(problem.status).toBe(status);
      expect(problem.detail).toBe(
        "the disk was full; ?source=result answers with the last lines from the job's result",
      );
    },
  );

  test("that breaks off in the middle does not end as if it were whole", async () => {
    const read = async function* (): AsyncGenerator<readonly JournalEntry[]> {
      yield JOURNAL;
      throw new LogMissing("the worker was lost", true);
    };
    const response = await request("", { read });
    expect(response.status).toBe(200);
    await expect(response.text()).rejects.toThrow("the worker was lost");
  });

  test.each(["", "?grep=Two", "?tail=2", "?format=json&attempt=1"])(
    "%j is closed when the client disconnects before it has read a byte",
    async (query) => {
      const opened = openJournals();
      const response = await request(query, { read: opened.read });
      expect(opened.count).toBe(1);
      await response.body?.cancel();
      expect(opened.count).toBe(0);
    },
  );

  test("is closed when the client disconnects before it is opened", async () => {
    const opened = openJournals();
    const asked = Promise.withResolvers<void>();
    const found = Promise.withResolvers<void>();
    const find: JobLogs["find"] = async (jobId) => {
      asked.resolve();
      await found.promise;
      return { jobId, latestAttempt: 1, record: undefined };
    };
    const app = appWith({ read: opened.read, find });
    const server = serveAdmin(app, { host: "127.0.0.1", port: 0 }, pino({ enabled: false }));
    try {
      const client = new AbortController();
      const headers = { host: "127.0.0.1:8080", authorization: "Bearer token" };
      const url = `http://127.0.0.1:${server.port}/api/v1/jobs/job/logs`;
      const answer = fetch(url, { headers, signal: client.signal });
      await asked.promise;
      client.abort();
      await expect(answer).rejects.toThrow();
      found.resolve();
      const isClosed = () => opened.total === 1 && opened.count === 0;
      await waitFor(isClosed, { timeoutMs: 30_000, what: "the log to be closed" });
    } finally {
      await server.stop();
    }
  });

  test.each(["", "?tail=1", "?grep=absent", "?follow=true&tail=1"])(
    "%j is not read on when the client disconnects meanwhile",
    async (query) => {
      const begun = Promise.withResolvers<void>();
      const read: JobLogs["read"] = async function* (_, __, ___, signal) {
        begun.resolve();
        await aborted(signal);
        yield* [];
      };
      const client = new AbortController();
      const response = request(query, { read }, { signal: client.signal });
      await begun.promise;
      client.abort();
      await (await response).body?.cancel();
    },
  );

  test("is sent to one client 100 times at once, whether followed or not", async () => {
    const app = appWith();
    const unread = Array.from({ length: 100 }, (_, index) =>
      request(index % 2 === 0 ? "" : "?follow=true", {}, {}, [], app),
    );
    const responses = await Promise.all(unread);
    expect(await problemOf(await request("", {}, {}, [], app))).toMatchObject({ status: 429 });
    await Promise.all(responses.map((response) => response.body?.cancel()));
    expect((await request("", {}, {}, [], app)).status).toBe(200);
  });
});

describe("a followed log", () => {
  test("has comments while nothing happens, and each event once", async () => {
    const goOn = Promise.withResolvers<void>();
    async function* quiet(): ReturnType<JobLogs["follow"]> {
      yield { kind: "entries", position: { attempt: 2, seq: 6 }, entries: JOURNAL.slice(1, 2) };
      await goOn.promise;
      yield { kind: "end", position: { attempt: 2, seq: 6 }, state: "FAILED" };
    }
    const response = await request("?follow=true", { follow: quiet, heartbeatMs: 1 });
    let text = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk;
      if (text.split(": following\n\n").length > 4) goOn.resolve();
    }
    const events = text.replaceAll(": following\n\n", "");
    expect(events).toBe("event: line\ndata: one\u202e\nid: 2.2\n\nevent: end\ndata: FAILED\nid: 2.6\n\n");
  });

  test("that fails while it is silent ends without the event end", async () => {
    const failed = Promise.withResolvers<void>();
    async function* quiet(): ReturnType<JobLogs["follow"]> {
      yield { kind: "entries", position: { attempt: 2, seq: 6 }, entries: [] };
      await failed.promise;
    }
    const response = await request("?follow=true", { follow: quiet, heartbeatMs: 1 });
    let text = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk;
      if (text.split(": following").length > 3) failed.reject(new LogMissing("away", true));
    }
    expect(text.replaceAll(": following\n\n", "")).toBe(": away\n\n");
  });

  test("consists of events, of which each line break of a line begins another data field", async () => {
    const body = await (await request("?follow=true")).text();
    expect(body).toBe(
      [
        ": following",
        "event: state\ndata: BUILDING\nid: 2.1",
        "event: line\ndata: one\u202e\nid: 2.2",
        `event: step\ndata: ${JSON.stringify(STEP)}\nid: 2.3`,
        "event: line\ndata: Two\nid: 2.4",
        "event: line\ndata: two with a\ndata: return\nid: 2.5",
        "event: state\ndata: FAILED\nid: 2.6",
        "event: end\ndata: FAILED\nid: 2.6",
        "",
      ].join("\n\n"),
    );
  });

  test.each([
    ["", undefined, { attempt: 0, seq: 0 }],
    ["", "1.7", { attempt: 1, seq: 7 }],
    ["&attempt=1", undefined, { attempt: 1, seq: 0 }],
    ["&attempt=1", "2.7", { attempt: 2, seq: 7 }],
    ["&tail=1", undefined, { attempt: 2, seq: 4 }],
  ])("with %j and Last-Event-ID %p begins at %p", async (query, after, start) => {
    started.length = 0;
    const headers: Record<string, string> = after === undefined ? {} : { "last-event-id": after };
    await (await request(`?follow=true${query}`, {}, { headers })).text();
    expect(started).toEqual([start]);
  });

  test.each([
    ["", ["[why]", "one", "Two", "two"]],
    ["&grep=two", ["[why]", "two"]],
    ["&grep=two&ignore_case=true", ["[why]", "Two", "two"]],
    ["&tail=2", ["[why]", "Two", "two"]],
    ["&tail=1&grep=o", ["[why]", "two"]],
    ["&grep=absent", ["[why]"]],
  ])(
    "with %j has of the lines in place of a log %p, of which only the last has an id",
    async (query, lines) => {
      const follow: JobLogs["follow"] = async function* () {
        const position = { attempt: 2, seq: 9 };
        yield { kind: "replacement", position, notice: "[why]", lines: ["one", "Two", "two"] };
      };
      const body = await (await request(`?follow=true${query}`, { follow })).text();
      const events = lines.map((line) => `event: line\ndata: ${line}\n\n`).join("");
      expect(body).toBe(`: following\n\n${events.replace(/\n$/, "id: 2.9\n\n")}`);
    },
  );

  test("is refused before the stream if the end of the job cannot be reached", async () => {
    const checkEnd = () => Promise.reject(new LogMissing("worker w was lost", false));
    for (const query of ["?follow=true", "?follow=true&tail=1"])
      expect(await problemOf(await request(query, { checkEnd }))).toMatchObject({ status: 404 });
    expect((await request("", { checkEnd })).status).toBe(200);
  });

  test.each(["7", "a.b", "1.", "-1.2", "1.2.3", "1.1234567890123456", "1e3.1"])(
    "Last-Event-ID %j is refused",
    async (after) => {
      const response = await request("?follow=true", {}, { headers: { "last-event-id": after } });
      const { status, detail } = await problemOf(response);
      expect(status).toBe(400);
      expect(detail).toContain("expected <attempt>.<seq>");
    },
  );

  test.each([
    ["an error", new Error("hidden"), "", 1],
    ["a server that does not answer", new LeasesUnavailable("hidden"), "", 0],
    ["an unreachable log", new LogMissing("start it", true), ": start it\n\n", 0],
  ])("that %s interrupts ends without the event `end`", async (_, failure, comment, lines) => {
    const logged: string[] = [];
    const response = await request("?follow=true", { follow: failing(failure) }, {}, logged);
    expect(await response.text()).toBe(`: following\n\n${comment}`);
    expect(logged).toHaveLength(lines);
  });
});

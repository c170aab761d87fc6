/** Answers that are not those of an orchestrator, and answers that do not arrive. */
import { afterEach, expect, test } from "bun:test";
import { ApiClient } from "../../../src/cli/api/client.ts";
import { ApiError } from "../../../src/cli/api/error.ts";
import { poll } from "../../../src/cli/api/patience.ts";
import { JOBS, NEW_JOB, STATUS } from "../../../src/cli/api/shapes.ts";
import { resultOf } from "../../../src/cli/follow-job.ts";
import { giveOrder } from "../../../src/cli/operator-order.ts";
import { sendJob } from "../../../src/cli/send-job.ts";
import { hintWhileWaiting } from "../../../src/cli/waiting-hint.ts";
import { runCli } from "../../support/blacktree/cli-source.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import {
  client,
  endedJob,
  problem,
  type ScriptedServer,
  serve,
  serveBytes,
  stopServers,
} from "./scripted-server.ts";

afterEach(stopServers);

const STATUS_ANSWER = { version: "1", region: "r", started_at: "2026-01-31T12:00:00Z", connected: {} };

/** The error of a request that fails. */
async function errorOf(request: Promise<unknown>): Promise<ApiError> {
  const error = await request.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof ApiError) return error;
  throw new Error(`not an ApiError: ${error}`);
}

const json = { headers: { "content-type": "application/json" } };

test.each([
  ["null", 502, "the API answered 502: null"],
  ['{"message": "no upstream",\n"code": 5}', 503, 'the API answered 503: {"message":"no upstream","code":5}'],
  ['{"title": "Not avail', 504, 'the API answered 504: {"title": "Not avail'],
  ['{"title": "Bad", "errors": "all"}', 500, 'the API answered 500: {"title":"Bad","errors":"all"}'],
  ['{"title": "Bad", "errors": []}', 400, 'the API answered 400: {"title":"Bad","errors":[]}'],
  ['{"error": "no such route"}', 404, 'the API answered 404: {"error":"no such route"}'],
  ["[]", 401, "the API answered 401: []; sent no token"],
  ["", 502, "the API answered 502"],
])("an error of another program is one error: %j", async (body, status, message) => {
  const { url } = serve(() => new Response(body, { ...json, status }));
  const api = new ApiClient([{ url, token: undefined, origin: "sent no token" }]);
  expect(await errorOf(api.get("/api/v1/status", STATUS))).toMatchObject({ message, status, problem: {} });
});

test.each([
  ["<html>", "is not JSON"],
  ['{"items": [', "is not JSON"],
  ["null", "is not a JSON object"],
  ["[]", "is not a JSON object"],
  ["{}", "has no valid items"],
  ['{"items": {}}', "has no valid items"],
  ['{"items": [null], "next_cursor": null}', "has no valid items.0"],
])(
  "an answer that is not that of an orchestrator is refused, and the next address asked: %j",
  async (body, why) => {
    const other = serve(() => new Response(body, json));
    const asked = client(other).get("/api/v1/jobs", JOBS);
    const expected = `${other.url}/api/v1/jobs is not the admin API of an orchestrator: the answer ${why}; check --api or BLACKTREE_API`;
    expect(await errorOf(asked)).toMatchObject({ message: expected, mayPass: false });
    const orchestrator = serve(() => Response.json({ items: [], next_cursor: null }));
    expect(await client(other, orchestrator).get<object>("/api/v1/jobs", JOBS)).toMatchObject({ items: [] });
  },
);

test("only a log is printed as a log", async () => {
  const page = serve(() => new Response("<html>", { headers: { "content-type": "text/html" } }));
  const { message } = await errorOf(client(page).read("/api/v1/jobs/x/logs", "text/plain"));
  expect(message).toContain("the answer is text/html instead of text/plain");
});

test("the hint why a job waits is left out if its answer is not that of an orchestrator", async () => {
  const asked = Promise.withResolvers<void>();
  const other = serve(() => {
    asked.resolve();
    return Response.json({ is_waiting: true });
  });
  const shown: string[] = [];
  const stop = hintWhileWaiting(client(other), "x", (text) => shown.push(text));
  await asked.promise;
  // The answer to a later request arrives later. An unhandled rejection fails the test.
  await errorOf(resultOf(client(other), "x"));
  stop();
  expect(shown).toEqual([]);
});

test("answers that are cut off are reported, and the next address asked", async () => {
  const cutOff = serveBytes('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"version": ');
  expect((await errorOf(client(cutOff).get("/api/v1/status", STATUS))).message).toBe(
    `no complete answer of the orchestrator's admin API at ${cutOff.url}: the connection was closed before its end`,
  );
  const orchestrator = serve(() => Response.json(STATUS_ANSWER));
  expect(await client(cutOff, orchestrator).get<object>("/api/v1/status", STATUS)).toEqual(STATUS_ANSWER);
});

test("the time limit is that of the whole answer, unless it is a stream", async () => {
  const slow = serve((_, { pathname }) => {
    const begun = new ReadableStream({
      async start(controller) {
        controller.enqueue(Buffer.from("{"));
        await asked.promise;
        controller.close();
      },
    });
    const type = pathname.endsWith("/logs") ? "text/plain" : "application/json";
    return new Response(begun, { headers: { "content-type": type } });
  });
  const asked = Promise.withResolvers<void>();
  const api = new ApiClient([{ url: slow.url, token: undefined, origin: "" }], 200);
  // On a busy machine, the beginning of the answer may be late too.
  const log = await waitFor(() => api.read("/api/v1/jobs/x/logs", "text/plain"), {
    timeoutMs: 60_000,
    what: "the beginning of the log",
  });
  for (const request of [api.get("/api/v1/status", STATUS), api.post("/api/v1/jobs", "{}", NEW_JOB)]) {
    const { message } = await errorOf(request);
    expect(message).toEndWith("it did not arrive within 0.2 s");
  }
  asked.resolve();
  expect(await new Response(log).text()).toBe("{");
});

const send = (...servers: readonly Pick<ScriptedServer, "url">[]) =>
  errorOf(
    sendJob(client(...servers), { jobId: "x", path: "/api/v1/jobs", body: "{}", flagOf: () => undefined }),
  );

const ADVICE =
  /\nthe job may have been accepted as x: blacktree job x shows it .* --job-id x submits it again/;

test("if a job may have been accepted, the error names its id", async () => {
  const lost = serveBytes("");
  const [page, failed] = [502, 500].map((status) => serve(() => new Response("sorry", { status })));
  const tokenRefused = serve(() => problem(401, "Unauthorized"));
  const cutOff = serveBytes('HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{"job_id": ');
  for (const servers of [[lost], [page], [failed], [cutOff], [lost, tokenRefused]] as ScriptedServer[][])
    expect((await send(...servers)).message).toMatch(ADVICE);
  expect((await send(lost)).message).not.toContain("--api");

  const nowhere = { url: "http://127.0.0.1:9" };
  const refused = serve(() => problem(400, "Bad job", "no"));
  const busy = serve(() => problem(503, "Not available", "Redis does not answer"));
  for (const servers of [[nowhere], [refused], [busy]])
    expect((await send(...servers)).message).not.toContain("accepted as");
});

test("submit and retry name the id of a job that may have been accepted", async () => {
  const { url } = serveBytes("");
  const job = ["--repo", "owner/name", "--branch", "main", "--version", "v1"];
  const target = ["--account", "123456789012", "--ecr-repo", "images"];
  const submitted = await runCli(["submit", ...job, ...target, "--api", url]);
  expect(submitted.stderr).toMatch(/accepted as ([0-9a-f-]{36}): blacktree job \1 shows it/);
  expect(submitted.exitCode).toBe(1);
  const retried = await runCli(["retry", "old", "--json", "--api", url]);
  expect(JSON.parse(retried.stderr).error).toMatch(/--job-id [0-9a-f-]{36} submits it again/);
});

test("an order is given at the next orchestrator if the first one does not answer it", async () => {
  const worker = { kind: "worker", name: "w1" } as const;
  const answer = { control: null, jobs: [], warning: null, region: "r" };
  for (const action of ["drain", "pause", "resume"] as const) {
    const away = [serveBytes(""), serve(() => problem(503, "Not available"))];
    const orchestrator = serve(() => Response.json(answer));
    expect(await giveOrder(client(...away, orchestrator), worker, action)).toEqual(answer);
  }
  const cancelling = serve(() => Response.json({ job_id: "x", state: "BUILDING" }, { status: 202 }));
  const { stdout } = await runCli(["cancel", "x", "--api", `${serveBytes("").url},${cancelling.url}`]);
  expect(stdout).toBe("x is BUILDING, and is being cancelled\n");
});

test("a cancel and a drain that wait survive errors that pass", async () => {
  const job = { ...endedJob("x", "CANCELLED"), state: "CANCELLED" };
  const answers = [
    () => Response.json({ job_id: "x", state: "BUILDING" }, { status: 202 }),
    () => problem(503, "Not available"),
    () => new Response("<h1>Bad gateway", { status: 502 }),
    () => Response.json({ ...job, result: null }),
    () => new Response("null", { ...json, status: 504 }),
    () => Response.json(job),
  ];
  const server = serve(() => answers.shift()?.() ?? problem(500, "asked too often"));
  const cancelled = await runCli(["cancel", "x", "--wait", "--api", server.url]);
  expect(cancelled.stdout).toStartWith("CANCELLED in 1.2 s");
  expect(cancelled.exitCode).toBe(0);

  const drained = { control: { kind: "drained", scope: "worker" }, jobs: ["j1"], warning: null, region: "r" };
  answers.push(
    () => Response.json(drained),
    () => problem(503, "Not available"),
    () => Response.json({ ...drained, jobs: [] }),
  );
  const { stdout, exitCode } = await runCli(["drain", "w1", "--wait", "--api", server.url]);
  expect(stdout).toEndWith("no job runs on w1 any more\n");
  expect(exitCode).toBe(0);
  // Of a worker that is not registered any more, the API says so itself.
  answers.push(
    () => Response.json(drained),
    () => new Response("default backend - 404", { status: 404 }),
  );
  const unknown = await runCli(["drain", "w1", "--wait", "--api", server.url]);
  expect(unknown).toMatchObject({
    stderr: "blacktree: the API answered 404: default backend - 404\n",
    exitCode: 1,
  });
});

test("requests are not repeated for ever, nor after an error that remains", async () => {
  let nowMs = 0;
  const bounds = { limitMs: 60_000, initialMs: 1, maxMs: 1, now: () => (nowMs += 25_000) };
  const ask = (server: ScriptedServer) =>
    errorOf(poll(async () => (await resultOf(client(server), "x")) ?? undefined, 1, bounds));
  const away = serve(() => problem(503, "Not available"));
  expect(await ask(away)).toMatchObject({ message: "Not available" });
  // After 0, 25, 50 and 75 seconds.
  expect(away.requests).toHaveLength(4);
  const unknown = serve(() => problem(404, "No such job"));
  expect(await ask(unknown)).toMatchObject({ message: "No such job" });
  expect(unknown.requests).toHaveLength(1);
});

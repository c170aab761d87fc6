/** The client against servers that break off, and that send more than a pipe takes. */
import { afterEach, expect, test } from "bun:test";
import { ApiClient } from "../../../src/cli/api/client.ts";
import { ApiError } from "../../../src/cli/api/error.ts";
import { NEW_JOB, STATUS } from "../../../src/cli/api/shapes.ts";
import { type FollowBounds, type FollowSink, followJob } from "../../../src/cli/follow-job.ts";
import { withJob } from "../../../src/cli/job-id.ts";
import { CLI_COMMAND, runCli } from "../../support/blacktree/cli-source.ts";
import { run } from "../../support/machine/processes.ts";
import {
  client,
  endedJob,
  eventStream,
  events,
  listedJob,
  problem,
  serve,
  serveBytes,
  stopServers,
} from "./scripted-server.ts";

afterEach(stopServers);

const JOB = JSON.stringify({
  ...{ repo_url: "owner/name", branch: "main", deployment_version: "v1" },
  ...{ aws_account: "123456789012", ecr_repo: "images" },
});

const STEP = { number: 1, name: "[1/1] RUN make", started_at: "2026-01-31T12:00:00Z" };

test("a follower resumes after its last event, at the next orchestrator if the first one is gone", async () => {
  const second = serve((_, { pathname }) => {
    if (!pathname.endsWith("/logs")) return Response.json(endedJob("web/42"));
    return events(["line", "after", "1.4"], ["later", "unknown kind", "1.5"], ["end", "SUCCEEDED", "1.6"]);
  });
  const answers = [
    events(["state", "BUILDING", "1.1"], ["step", JSON.stringify(STEP), "1.2"], ["line", "before", "1.3"]),
  ];
  const first = serve(() => answers.pop() ?? Response.json({ title: "Not available" }, { status: 503 }));
  const seen: unknown[] = [];
  const sink: FollowSink = {
    line: (text) => seen.push(text),
    state: (name) => seen.push(`--- ${name}`),
    step: (step) => seen.push(step),
  };
  const result = await followJob(client(first, second), "web/42", sink, new URLSearchParams({ grep: "e" }));
  expect(result.status).toBe("SUCCESS");
  expect(seen).toEqual(["--- BUILDING", STEP, "before", "after"]);
  const path = "GET /api/v1/jobs/web%2F42";
  expect(first.requests).toEqual([`${path}/logs?grep=e&follow=true`, `${path}/logs?grep=e&follow=true 1.3`]);
  expect(second.requests).toEqual([`${path}/logs?grep=e&follow=true 1.3`, path]);
});

test("an unknown job ends the following at once", async () => {
  const server = serve(() => Response.json({ title: "No such job", detail: "gone" }, { status: 404 }));
  const ignored = () => undefined;
  const following = followJob(client(server), "x", { line: ignored, state: ignored, step: ignored });
  await expect(following).rejects.toThrow("No such job: gone");
  expect(server.requests).toHaveLength(1);
});

/** Each failure is 25 seconds after the one before. */
const quickly = (): FollowBounds => {
  let nowMs = 0;
  const now = () => (nowMs += 25_000);
  return { limitMs: 60_000, initialMs: 1, maxMs: 1, now, stableMs: Number.POSITIVE_INFINITY };
};
const IGNORED: FollowSink = { line: () => undefined, state: () => undefined, step: () => undefined };

test.each([
  [": following\n\n: the log is at another orchestrator\n\n", "the log is at another orchestrator"],
  [": following\n\n", "the server ends the stream"],
  ["", "the server ends the stream"],
])("streams that end without an event are not followed for ever: %j", async (stream, reason) => {
  const server = serve(() => eventStream(stream));
  const following = followJob(client(server), "x", IGNORED, undefined, quickly());
  await expect(following).rejects.toThrow(`the log of job x breaks off: ${reason}`);
  expect(server.requests).toHaveLength(4);
});

test("after each event, the tries are counted again", async () => {
  const line = "event: line\ndata: a\nid: 1.1\n\n";
  const answers = ["", "", "", line, "", "", "event: end\ndata: SUCCEEDED\nid: 1.2\n\n"];
  const server = serve((_, { pathname }) =>
    pathname.endsWith("/logs") ? eventStream(answers.shift() ?? "") : Response.json(endedJob("x")),
  );
  const result = await followJob(client(server), "x", IGNORED, undefined, quickly());
  expect(result.status).toBe("SUCCESS");
});

test("silent streams that a proxy ends after a while are not failures", async () => {
  let streams = 0;
  const server = serve((_, { pathname }) => {
    if (!pathname.endsWith("/logs")) return Response.json(endedJob("x"));
    streams += 1;
    return streams < 10 ? eventStream(": following\n\n") : events(["end", "SUCCEEDED", "1.1"]);
  });
  const result = await followJob(client(server), "x", IGNORED, undefined, { ...quickly(), stableMs: 0 });
  expect(result.status).toBe("SUCCESS");
});

test("an answer that is not a stream of events is refused at once", async () => {
  const server = serve(() => Response.json({}));
  const following = followJob(client(server), "x", IGNORED, undefined, quickly());
  await expect(following).rejects.toThrow("the answer is application/json");
  expect(server.requests).toHaveLength(1);
});

test("the result of a job whose log cannot be read is still printed, and decides the exit status", async () => {
  const server = serve((request, { pathname }) => {
    if (request.method === "POST") return Response.json({ job_id: "x" }, { status: 202 });
    if (pathname.endsWith("/logs")) return problem(404, "Log not available");
    return Response.json(endedJob("x"));
  });
  const args = ["submit", "--wait", "--job-id", "x", "--file", "-", "--api", server.url];
  const { stdout, stderr, exitCode } = await run([...CLI_COMMAND, ...args], { stdin: JOB, mayFail: true });
  expect(stdout.split("\n").slice(0, 3)).toEqual([
    "job x",
    "blacktree: Log not available",
    expect.stringContaining("SUCCESS in 1.2 s"),
  ]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
});

test("if none answers, all are named; a page of a proxy is one line", async () => {
  const [one, two] = [
    serve(() => new Response("<h1>Bad gateway</h1>\nof the proxy", { status: 502 })),
    serve(() => new Response("", { status: 504 })),
  ];
  const failed = client(one, two).get("/api/v1/status", STATUS);
  await expect(failed).rejects.toThrow("the API answered 502: <h1>Bad gateway</h1>\nthe API answered 504");
});

test("an id may be the beginning of one, unless a request fails for another reason", async () => {
  const ids = ["web-42", "web-42b", "other"];
  const server = serve((_, { pathname }) => {
    if (pathname === "/api/v1/jobs")
      return Response.json({ items: ids.map((id) => listedJob(id)), next_cursor: null });
    return Response.json({ title: "No such thing" }, { status: 404 });
  });
  const idFor = (given: string) =>
    withJob(client(server), given, async (id) => {
      if (id === "other") return id;
      throw new ApiError("No such thing", 404);
    });
  expect(await idFor("othe")).toBe("other");
  await expect(idFor("web-")).rejects.toThrow("2 jobs begin so: web-42, web-42b");
  await expect(idFor("web-42")).rejects.toThrow("No such thing");
  server.requests.length = 0;
  await expect(idFor("oth")).rejects.toThrow("No such thing");
  expect(server.requests).toEqual([]);
});

test("an empty list says whether there are other jobs, or where they may be", async () => {
  let others: readonly object[] = [listedJob("other")];
  const server = serve((_, { searchParams }) =>
    Response.json({ items: searchParams.has("branch") ? [] : others, next_cursor: null }),
  );
  const jobs = async (...args: string[]) =>
    (await runCli(["jobs", ...args], { env: { BLACKTREE_API: server.url } })).stdout;
  expect(await jobs("--branch", "none")).toStartWith("no jobs match these filters");
  others = [];
  expect(await jobs()).toContain("BLACKTREE_JOB_MEMORY");
});

test("all pages of a list are read with --all, and more of them are reported without", async () => {
  const server = serve((_, { searchParams }) => {
    const start = Number(searchParams.get("cursor") ?? 0);
    const ids = Array.from(
      { length: Math.min(Number(searchParams.get("limit")), 700 - start) },
      (_, index) => start + index,
    );
    const next = start + ids.length;
    return Response.json({
      items: ids.map((id) => listedJob(`job-${id}`)),
      next_cursor: next < 700 ? String(next) : null,
    });
  });
  const jobs = (...args: string[]) =>
    runCli(["jobs", "--json", ...args], { env: { BLACKTREE_API: server.url } });
  expect(JSON.parse((await jobs("--all")).stdout)).toHaveLength(700);
  const some = await jobs("--limit", "3");
  expect(JSON.parse(some.stdout)).toHaveLength(3);
  expect(some.stderr).toContain("there are more jobs; --limit or --all lists them");
});

test("a log that breaks off is reported as not complete", async () => {
  const { url } = serveBytes(
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nthe beginning\n",
  );
  const { exitCode, stderr } = await runCli(["logs", "x", "--api", url]);
  expect(stderr).toBe("blacktree: lost the connection: the output is not complete\n");
  expect(exitCode).toBe(1);
});

test("a path in front of the API is kept", async () => {
  const server = serve(() => Response.json({ job_id: "x" }));
  const api = new ApiClient([{ url: `${server.url}/blacktree/`, token: undefined, origin: "" }]);
  expect(await api.get("/api/v1/status", NEW_JOB)).toEqual({ job_id: "x" });
  expect(server.requests).toEqual(["GET /blacktree/api/v1/status"]);
});

test("a log is copied as fast as it is read: a file gets all of it, and head ends it quietly", async () => {
  const line = new TextEncoder().encode(`${"x".repeat(99)}\n`.repeat(10_000));
  const chunks = 20;
  const server = serve(() => {
    let sent = 0;
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (sent++ < chunks) controller.enqueue(line);
          else controller.close();
        },
      }),
      { headers: { "content-type": "text/plain;charset=UTF-8" } },
    );
  });
  const logs = `${CLI_COMMAND.join(" ")} logs big --api ${server.url} --grep x --tail 7 --attempt 2 --ignore-case`;
  const script = `${logs} | wc -c; ${logs} | head -1 | wc -c; echo \${PIPESTATUS[0]}`;
  const { stdout, stderr } = await run(["bash", "-c", script]);
  expect(stdout.split("\n")).toEqual([String(line.length * chunks), "100", "1", ""]);
  expect(stderr).toBe("");
  const query = "attempt=2&grep=x&tail=7&ignore_case=true&format=text";
  expect(new Set(server.requests)).toEqual(new Set([`GET /api/v1/jobs/big/logs?${query}`]));
});

test("output that cannot be written is an error", async () => {
  const server = serve((_, { pathname }) =>
    pathname.endsWith("/logs")
      ? new Response("a line\n", { headers: { "content-type": "text/plain" } })
      : Response.json({ items: [listedJob("x")], next_cursor: null }),
  );
  const failing = async (...args: string[]) => {
    const command = [...CLI_COMMAND, ...args].join(" ");
    const { stderr, exitCode } = await run(["bash", "-c", `${command} >/dev/full`], {
      env: { BLACKTREE_API: server.url },
      mayFail: true,
    });
    expect(exitCode).toBe(1);
    return stderr;
  };
  const message = "cannot write to standard output: ENOSPC: no space left on device, write";
  expect(await failing("logs", "x")).toBe(`blacktree: ${message}\n`);
  expect(await failing("jobs", "--help")).toBe(`blacktree: ${message}\n`);
  expect(JSON.parse(await failing("jobs", "--json"))).toEqual({ error: message });
});

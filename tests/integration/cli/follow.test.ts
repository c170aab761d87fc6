/** The client against servers that break off, and that send more than a pipe takes. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { ApiClient, ApiError } from "../../../src/cli/api-client.ts";
import { type FollowSink, followJob } from "../../../src/cli/follow-job.ts";
import { withJob } from "../../../src/cli/job-id.ts";
import { CLI_COMMAND, runCli } from "../../support/blacktree/cli-source.ts";
import { run } from "../../support/machine/processes.ts";

setDefaultTimeout(180_000);

interface ScriptedServer {
  readonly url: string;
  readonly requests: string[];
  stop(): Promise<void>;
}

const servers: ScriptedServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

function serve(answer: (request: Request, url: URL) => Response | Promise<Response>): ScriptedServer {
  const requests: string[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    fetch(request) {
      const url = new URL(request.url);
      requests.push(
        `${request.method} ${url.pathname}${url.search} ${request.headers.get("last-event-id") ?? ""}`.trim(),
      );
      return answer(request, url);
    },
  });
  const started = { url: `http://127.0.0.1:${server.port}`, requests, stop: () => server.stop(true) };
  servers.push(started);
  return started;
}

const events = (...all: readonly [event: string, data: string, id: string][]) =>
  new Response(all.map(([event, data, id]) => `event: ${event}\ndata: ${data}\nid: ${id}\n\n`).join(""), {
    headers: { "content-type": "text/event-stream" },
  });

const client = (...all: readonly ScriptedServer[]) =>
  new ApiClient(all.map(({ url }) => ({ url, token: undefined, origin: "" })));

const STEP = { number: 1, name: "[1/1] RUN make", started_at: "2026-01-31T12:00:00Z" };

test("a follower resumes after its last event, at the next orchestrator if the first one is gone", async () => {
  const second = serve((_, { pathname }) => {
    if (!pathname.endsWith("/logs")) return Response.json({ result: { status: "SUCCESS" } });
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

test("a request is sent to another orchestrator only if its effect would be the same", async () => {
  const busy = serve(() => Response.json({ title: "Not available" }, { status: 503 }));
  const other = serve(() => Response.json({ job_id: "x" }, { status: 202 }));
  const post = (isRepeatable: boolean) => client(busy, other).post("/api/v1/jobs", "{}", isRepeatable);
  await expect(post(false)).rejects.toThrow(ApiError);
  expect(other.requests).toHaveLength(0);
  expect(await post(true)).toEqual({ job_id: "x" });
  await busy.stop();
  expect(await post(false)).toEqual({ job_id: "x" });
});

test("if none answers, all are named; a page of a proxy is one line", async () => {
  const [one, two] = [
    serve(() => new Response("<h1>Bad gateway</h1>\nof the proxy", { status: 502 })),
    serve(() => new Response("", { status: 504 })),
  ];
  const failed = client(one, two).get("/api/v1/status");
  await expect(failed).rejects.toThrow("the API answered 502: <h1>Bad gateway</h1>\nthe API answered 504");
});

test("an id may be the beginning of one, unless a request fails for another reason", async () => {
  const ids = ["web-42", "web-42b", "other"];
  const server = serve((_, { pathname }) => {
    if (pathname === "/api/v1/jobs") return Response.json({ items: ids.map((job_id) => ({ job_id })) });
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
  let others: readonly object[] = [{ job_id: "other" }];
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
      items: ids.map((id) => ({ job_id: `job-${id}` })),
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

test("the page of another server is not taken for an answer", async () => {
  const server = serve(() => new Response("<html>"));
  await expect(client(server).get("/api/v1/status")).rejects.toThrow(
    `the answer of ${server.url}/api/v1/status is not JSON; expected the admin API of an orchestrator`,
  );
});

test("a log that breaks off is reported as not complete", async () => {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthe beginning\n");
        socket.end();
      },
    },
  });
  try {
    const api = `http://127.0.0.1:${server.port}`;
    const { exitCode, stderr } = await runCli(["logs", "x", "--api", api]);
    expect(stderr).toBe("blacktree: lost the connection: the output is not complete\n");
    expect(exitCode).toBe(1);
  } finally {
    server.stop(true);
  }
});

test("a path in front of the API is kept", async () => {
  const server = serve(() => Response.json({}));
  await new ApiClient([{ url: `${server.url}/blacktree/`, token: undefined, origin: "" }]).get(
    "/api/v1/status",
  );
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

/** HTTP servers that answer as a test says, and what an orchestrator would answer. */
import { ApiClient } from "../../../src/cli/api/client.ts";

export interface ScriptedServer {
  readonly url: string;
  /** Method, path with query, and the id after which a log is resumed. */
  readonly requests: string[];
  stop(): Promise<void>;
}

const servers: ScriptedServer[] = [];

/** For `afterEach`. */
export async function stopServers(): Promise<void> {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
}

export function serve(answer: (request: Request, url: URL) => Response | Promise<Response>): ScriptedServer {
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

/** Receives requests, answers with these bytes, and closes the connection. */
export function serveBytes(answer: string): ScriptedServer {
  const requests: string[] = [];
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, received) {
        requests.push(received.toString().split(" HTTP")[0] ?? "");
        socket.write(answer);
        socket.end();
      },
    },
  });
  const stop = async () => server.stop(true);
  const started = { url: `http://127.0.0.1:${server.port}`, requests, stop };
  servers.push(started);
  return started;
}

export const client = (...all: readonly Pick<ScriptedServer, "url">[]) =>
  new ApiClient(all.map(({ url }) => ({ url, token: undefined, origin: "" })));

export const eventStream = (text: string) =>
  new Response(text, { headers: { "content-type": "text/event-stream" } });

export const events = (...all: readonly [event: string, data: string, id: string][]) =>
  eventStream(all.map(([event, data, id]) => `event: ${event}\ndata: ${data}\nid: ${id}\n\n`).join(""));

/** As the API answers it. */
export const problem = (status: number, title: string, detail?: string) =>
  Response.json({ title, detail }, { status, headers: { "content-type": "application/problem+json" } });

export const listedJob = (job_id: string, state = "QUEUED") => ({
  job_id,
  state,
  accepted_at: "2026-01-31T12:00:00Z",
});

export const runningJob = (job_id: string) => ({
  ...listedJob(job_id, "BUILDING"),
  events: [],
  result: null,
});

export const endedJob = (job_id: string, status = "SUCCESS") => ({
  ...listedJob(job_id, status === "SUCCESS" ? "SUCCEEDED" : status),
  events: [],
  result: { job_id, status, timings_ms: { total: 1200 } },
});

import { afterAll, beforeAll, expect, test } from "bun:test";
import { waitFor } from "../../../support/machine/wait-for.ts";
import type { GitServer } from "../../../support/servers/git-server.ts";
import { type CloneBench, repositoryName, startCloneBench } from "./clone-bench.ts";

const needsDefaultBranch = true;
let bench: CloneBench;
let git: GitServer;

beforeAll(async () => {
  bench = await startCloneBench();
  ({ git } = bench);
});
afterAll(() => bench.stop());

async function createRepository(options: { token?: string } = {}) {
  const { token } = options;
  const name = repositoryName();
  const rule = token === undefined ? {} : { private: { token } };
  await git.createRepository(name, { file: "one" }, { branch: "trunk", ...rule });
  await git.commit(name, { file: "two" }, { branch: "topic" });
  const requests = () => git.requests.filter(({ path }) => path.includes(name));
  return { name, url: `${git.baseUrl}/${name}`, requests };
}

/** The query does not name a branch; the clone does. */
const isTheQuery = (body: string) => body.includes("command=ls-refs") && !body.includes("refs/heads/topic");

/** A server in front of the git server. */
function startFront(answer: (request: Request, body: string) => Promise<Response> | Response) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => answer(request, await request.text()),
  });
}

function passedOn(request: Request, body: string): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  const { method, headers } = request;
  return fetch(`${git.baseUrl}${pathname}${search}`, { method, headers, body: body || null });
}

test("is what the server's HEAD names, for a new clone and for a cached checkout", async () => {
  const { url } = await createRepository();
  const at = bench.checkoutCache();
  for (let round = 0; round < 2; round++) {
    const run = await bench.cloned({ url, branch: "topic", needsDefaultBranch, ...at });
    expect(await run.source.defaultBranch()).toBe("trunk");
    // The job's log does not contain git's output.
    expect(run.lines.join("\n")).not.toContain("ref:");
    await run.end();
  }
});

test("is requested with the job's own token", async () => {
  const { url } = await createRepository({ token: "the token" });
  const run = await bench.cloned({ url, branch: "topic", gitToken: "the token", needsDefaultBranch });
  expect(await run.source.defaultBranch()).toBe("trunk");
});

test("is requested while the clone runs", async () => {
  const { name, url, requests } = await createRepository();
  const held = git.hold(({ path }) => path.includes(name));
  const cloning = bench.cloned({ url, branch: "topic", needsDefaultBranch });
  await waitFor(() => requests().length === 2, { timeoutMs: 30_000, what: "both requests" });
  held.release();
  expect(await (await cloning).source.defaultBranch()).toBe("trunk");
});

test("is not requested unless it is needed", async () => {
  const { url, requests } = await createRepository();
  await bench.cloned({ url, branch: "topic" });
  expect(requests().filter(({ method }) => method === "GET")).toHaveLength(1);
});

test("is unknown, and logged so, when HEAD does not name a branch", async () => {
  const { name, url } = await createRepository();
  await git.detachHead(name);
  const run = await bench.cloned({ url, branch: "topic", needsDefaultBranch });
  expect(await run.source.defaultBranch()).toBeUndefined();
  expect(run.lines.at(-1)).toContain("HEAD does not name a branch");
});

test("a failure of the query does not fail the clone", async () => {
  const { name } = await createRepository();
  const front = startFront((request, body) => {
    if (isTheQuery(body)) return new Response(null, { status: 500 });
    return passedOn(request, body);
  });
  try {
    const url = `http://127.0.0.1:${front.port}/${name}`;
    const run = await bench.cloned({ url, branch: "topic", needsDefaultBranch });
    expect(await run.source.defaultBranch()).toBeUndefined();
    expect(run.lines.at(-1)).toContain("500");
  } finally {
    await front.stop(true);
  }
});

test("a redirect is followed to an allowed host", async () => {
  const { name } = await createRepository();
  const front = startFront((request) => {
    const { pathname, search } = new URL(request.url);
    return Response.redirect(`${git.baseUrl}${pathname}${search}`, 302);
  });
  try {
    const url = `http://127.0.0.1:${front.port}/${name}`;
    const run = await bench.cloned({ url, branch: "topic", needsDefaultBranch });
    expect(await run.source.defaultBranch()).toBe("trunk");
  } finally {
    await front.stop(true);
  }
});

test("a run that ends does not wait for the answer", async () => {
  const { name } = await createRepository();
  const received = Promise.withResolvers<void>();
  const front = startFront((request, body) => {
    if (isTheQuery(body)) {
      received.resolve();
      return new Promise<Response>(() => {});
    }
    return passedOn(request, body);
  });
  try {
    const url = `http://127.0.0.1:${front.port}/${name}`;
    const run = await bench.cloned({ url, branch: "topic", needsDefaultBranch });
    await received.promise;
    await run.end();
    expect(await run.source.defaultBranch()).toBeUndefined();
    expect(run.lines.at(-1)).toContain("the run has ended");
  } finally {
    await front.stop(true);
  }
});

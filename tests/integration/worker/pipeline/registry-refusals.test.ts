/** A registry that refuses a push: what is final fails at once, and what may pass is tried again in place. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import type { FailureOptions } from "../../../support/servers/registry-proxy.ts";
import { type PipelineBench, type StartedRun, startPipelineBench } from "./pipeline-bench.ts";

const reason = await missingDockerEngine("26.1");

describe.skipIf(reason !== undefined)(`a registry that refuses a push${reason ? ` (${reason})` : ""}`, () => {
  let bench: PipelineBench;

  beforeAll(async () => {
    bench = await startPipelineBench({ engine: "26.1" });
  });
  afterAll(() => bench?.stop());

  /** Fails all matching requests to the run's repository, and returns those that arrived. */
  async function runWith(failures: readonly (Omit<FailureOptions, "path"> & { path: string })[]) {
    const { name } = await bench.createSample();
    const ecrRepo = bench.unique("images");
    for (const failure of failures)
      bench.proxy.failNext({ ...failure, path: new RegExp(`^/v2/${ecrRepo}/${failure.path}`) });
    const run = bench.start({ repoUrl: name, ecrRepo });
    const end = await run.end;
    bench.proxy.clearFailures();
    const requests = bench.proxy.requests.filter(({ path }) => path.startsWith(`/v2/${ecrRepo}/`));
    return { run, end, requests };
  }

  const always = 100_000;
  const uploads = "blobs/uploads/";
  const final = [
    ["PUT", "manifests/sha256", 400, "MANIFEST_INVALID"],
    ["POST", uploads, 405, "UNSUPPORTED"],
    ["PUT", uploads, 413, "UNKNOWN"],
    ["PUT", "manifests/sha256", 415, "UNKNOWN"],
  ] as const;
  for (const [index, [method, path, status, code]] of final.entries())
    inFullCheck(index > 0).test(`${status} ${code} fails the job after one build`, async () => {
      const { run, end } = await runWith([{ method, path, status, code, count: always }]);
      expect(end.failure).toMatchObject({ code: "PUSH_FAILED", step: "push", retryable: false });
      expect(end.failure?.message).toContain(`${status}`);
      expect(buildsOf(run)).toBe(1);
    });

  test("a registry that limits requests is asked for the time to wait, and the push waits until then", async () => {
    // BuildKit repeats a limited request itself, several times; the worker's request has the time.
    const limited = { status: 429, headers: { "retry-after": "1" } };
    const { run, end, requests } = await runWith([
      { ...limited, method: "POST", path: uploads, count: 30 },
      { ...limited, method: "GET", path: "manifests/blacktree-", count: always },
    ]);
    expect(end).toMatchObject({ status: "SUCCESS" });
    const asked = requests.filter(({ path }) => path.includes("/manifests/blacktree-"));
    expect(asked.length).toBeGreaterThan(0);
    expect(run.lines.join("\n")).toMatch(/trying again in \d+ s \(the server limits requests\)/);
    for (const { at } of asked) {
      const next = requests.find(
        (request) => request.at > at && !request.path.includes("/manifests/blacktree-"),
      );
      expect((next?.at ?? 0) - at).toBeGreaterThanOrEqual(1000);
    }
  });

  test("Retry-After is honoured for the tag", async () => {
    const headers = { "retry-after": "1" };
    const { end, requests } = await runWith([
      { method: "PUT", path: "manifests/v-", status: 429, headers, count: 4 },
    ]);
    expect(end).toMatchObject({ status: "SUCCESS" });
    const puts = requests.filter(({ method, path }) => method === "PUT" && path.includes("/manifests/v-"));
    expect(puts).toHaveLength(5);
    for (const [index, { at }] of puts.slice(1).entries())
      expect(at - (puts[index]?.at ?? 0)).toBeGreaterThanOrEqual(1000);
  });

  inFullCheck().test("a repeated push sends no blob again that the registry has", async () => {
    const failure = { method: "PUT", path: "manifests/sha256", status: 404, code: "MANIFEST_BLOB_UNKNOWN" };
    const { run, end, requests } = await runWith([{ ...failure, count: 1 }]);
    expect(end).toMatchObject({ status: "SUCCESS" });
    expect(buildsOf(run)).toBe(2);
    const sent = requests
      .filter(({ method, path }) => method === "PUT" && path.includes(uploads))
      .map(({ path }) => new URL(path, bench.proxy.url).searchParams.get("digest"));
    expect(sent.length).toBeGreaterThan(1);
    expect(new Set(sent).size).toBe(sent.length);
  });

  function buildsOf({ lines }: StartedRun): number {
    return lines.filter((line) => /^#\d+ \[internal\] load build definition/.test(line)).length;
  }
});

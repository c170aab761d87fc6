import { expect, test } from "bun:test";
import { tagProblems } from "../../../drill/checks/job-checks.ts";
import { putProblems, type TagOwner, type TagPut, tagHistory } from "../../../drill/checks/tag-history.ts";
import { planJob } from "../../../drill/jobs/plan.ts";
import { SeededRandom } from "../../../drill/seeded-random.ts";
import type { RecordedRequest } from "../../../support/servers/registry-proxy.ts";
import { assigned, fault, faults, line, resultOf, run } from "../observations.ts";

const PATH = "/v2/images/manifests/v-0001";
const workerAt = (host: string) => (host === "one" ? "worker-1" : "worker-2");
const passed = (host: string, at: number, digest: string) =>
  ({ method: "PUT", path: PATH, host, at, digest, status: 201 }) as RecordedRequest;
const completed = (at: number, status = 201) => ({ method: "PUT", path: PATH, status, at });

test("drill: the puts are those of the registry's log, with client and digest of the request that was passed on", () => {
  const requests = [passed("one", 1000, "a"), passed("one", 2000, "a"), passed("two", 3000, "b")];
  const { puts, unknown } = tagHistory([completed(3010), completed(1010)], requests, PATH, workerAt);
  expect(puts).toMatchObject([
    { at: 1010, digest: "a", worker: "worker-1" },
    { at: 3010, digest: "b", worker: "worker-2" },
  ]);
  expect(unknown).toBe(0);
  expect(tagHistory([completed(500)], requests, PATH, workerAt)).toEqual({ puts: [], unknown: 1 });
  expect(tagHistory([completed(1010, 500)], requests, PATH, workerAt)).toEqual({ puts: [], unknown: 0 });
});

const put = (worker: string, at: number, digest = "a"): TagPut => ({ at, arrivedAt: at - 5, digest, worker });
const RUNS = [run(1, "worker-1", 0, 20_000), run(2, "worker-2", 10_000, 15_000)];

function problems(puts: readonly TagPut[], owner: Partial<TagOwner> = {}): string[] {
  return putProblems(puts, { runs: RUNS, assigned: [], lines: [], faults: faults(), ...owner });
}

test("drill: a tag is put once, and not by an attempt that has a successor", () => {
  expect(problems([put("worker-1", 9000)])).toEqual([]);
  expect(problems([put("worker-2", 14_000)])).toEqual([]);
  expect(problems([put("worker-1", 11_000)])).toHaveLength(1);
  expect(problems([put("worker-3", 11_000)])).toHaveLength(1);
  expect(problems([put("worker-1", 9000), put("worker-2", 14_000, "b")])).toHaveLength(1);
});

test("drill: a tag is not put after the next attempt was assigned, or this one declared lost", () => {
  expect(problems([put("worker-1", 9000)], { assigned: [assigned(2, "worker-2", 8500)] })).toHaveLength(1);
  const lost = line("worker lost", 8000, { attempt: 1 });
  expect(problems([put("worker-1", 9000)], { lines: [lost] })).toHaveLength(1);
  const flushed = faults(fault("Redis flushed", "redis", 8500, 8500));
  expect(problems([put("worker-1", 9000)], { lines: [lost], faults: flushed })).toEqual([]);
});

test("drill: a tag is not put after the result", () => {
  const lines = [line("result published", 8000)];
  expect(problems([put("worker-1", 9000)], { lines })).toHaveLength(1);
  const flushed = faults(fault("Redis flushed", "redis", 8500, 8500));
  expect(problems([put("worker-1", 9000)], { lines, faults: flushed })).toEqual([]);
});

test("drill: one attempt puts a tag twice only if the first answer may have been lost", () => {
  const twice = [put("worker-1", 7000), put("worker-1", 9000)];
  expect(problems(twice)).toHaveLength(1);
  const restarted = faults(fault("registry restarted", "registry", 6900, 8000));
  expect(problems(twice, { faults: restarted })).toEqual([]);
});

test("drill: the tag is the one in the result, and a failed build has no tag", () => {
  const job = planJob("quick", 1, new SeededRandom("tags"), "drill-test");
  const tagged = (result: Parameters<typeof resultOf>[0], digest: string | undefined) =>
    tagProblems(
      {
        job,
        results: [resultOf(result)],
        tagged: digest,
        puts: digest === undefined ? [] : [put("worker-1", 9000, digest)],
        lines: [],
      },
      faults(),
    );
  expect(tagged({}, "sha256:one")).toEqual([]);
  expect(tagged({}, "sha256:two")).not.toEqual([]);
  expect(tagged({}, undefined)).not.toEqual([]);
  const error = { code: "BUILD_FAILED", retryable: false, message: "", step: "build" } as const;
  const failed = { status: "FAILED", image_digest: null, error } as const;
  expect(tagged(failed, undefined)).toEqual([]);
  expect(tagged(failed, "sha256:one")).toHaveLength(1);
});

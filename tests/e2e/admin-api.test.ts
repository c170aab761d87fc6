/** The admin API keeps to its OpenAPI document: schemathesis sends requests that the document allows or forbids. */
import { afterAll, beforeAll, expect } from "bun:test";
import { join } from "node:path";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import {
  type OrchestratorProcess,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { faultSite, sampleJob } from "../support/blacktree/fault-site.ts";
import { inFullCheck } from "../support/machine/full-check.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import {
  type ApiFuzzing,
  type FuzzingReport,
  fuzzApi,
  validateOpenApi,
} from "../support/schemathesis/schemathesis.ts";

const site = faultSite();

let folder: TempDir;

beforeAll(async () => {
  folder = await makeTempDir("admin-api");
});

afterAll(() => folder?.remove());

async function get<Answer>({ apiUrl }: OrchestratorProcess, path: string): Promise<Answer> {
  return (await (await apiRequest(apiUrl, path)).json()) as Answer;
}

/** Jobs that have succeeded, failed, been cancelled, and that wait. */
async function recordJobs(orchestrator: OrchestratorProcess, worker: WorkerProcess): Promise<string[]> {
  const { deployment, backends } = site;
  const succeeds = await sampleJob(backends, { variant: "working" });
  const fails = { ...succeeds, job_id: "fails", repo_url: "owner/nowhere", deployment_version: "v-fails" };
  await deployment.publish(succeeds);
  await untilState(orchestrator, succeeds.job_id, "SUCCEEDED");
  await deployment.publish(fails);
  await untilState(orchestrator, fails.job_id, "FAILED");
  await untilFree(orchestrator, worker);
  const waiting = Array.from({ length: 5 }, (_, index) => `waits-${index}`);
  for (const job_id of waiting) {
    await deployment.publish({ ...fails, job_id, worker_region: "elsewhere", region_policy: "require" });
    await untilState(orchestrator, job_id, "QUEUED");
  }
  return [succeeds.job_id, fails.job_id, ...waiting];
}

async function fuzzed(
  limits: Pick<ApiFuzzing, "phases" | "maxExamples" | "timeoutMs">,
): Promise<FuzzingReport> {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator);
  const jobs = await recordJobs(orchestrator, worker);
  const documentFile = join(folder.path, "openapi.json");
  await Bun.write(documentFile, await (await apiRequest(orchestrator.apiUrl, "/openapi.json")).text());
  await validateOpenApi(documentFile);
  const { next_cursor: cursor } = await get<{ next_cursor: string }>(orchestrator, "/api/v1/jobs?limit=1");
  const report = await fuzzApi({
    ...limits,
    apiUrl: orchestrator.apiUrl,
    documentFile,
    folder: folder.path,
    knownIds: { jobs, workers: [worker.id], regions: ["us-east-1"] },
    cursor,
  });
  expect(orchestrator.process.lines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  return report;
}

const countOf = (statuses: Readonly<Record<string, number>>) =>
  Object.values(statuses).reduce((sum, count) => sum + count, 0);

/** Also checks that the document, which a compiled orchestrator serves, is valid OpenAPI. */
inFullCheck().test(
  "answers conform to the document, and none is a server error",
  async () => {
    const { findings, statuses } = await fuzzed({ phases: ["coverage"], maxExamples: 1, timeoutMs: 300_000 });
    expect(findings).toBe("");
    expect(countOf(statuses)).toBeGreaterThan(200);
  },
  900_000,
);

inFullCheck().test(
  "the same is true of 10,000 requests",
  async () => {
    const phases = ["examples", "coverage", "fuzzing"] as const;
    const { findings, statuses } = await fuzzed({ phases, maxExamples: 2000, timeoutMs: 3_600_000 });
    const rows = Object.entries(statuses).toSorted();
    process.stdout.write(rows.map(([answer, count]) => `${answer}: ${count}\n`).join(""));
    expect(findings).toBe("");
    expect(countOf(statuses)).toBeGreaterThan(10_000);
  },
  3_700_000,
);

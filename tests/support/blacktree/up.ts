/** A compiled `blacktree up`. */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { JobResult } from "../../../src/shared/job.ts";
import { type FinishedProcess, run, startProcess, type TestProcess } from "../machine/processes.ts";
import { apiRequest } from "./admin-api.ts";
import { compiledBinaries } from "./binaries.ts";

/** On a busy machine. */
const START_TIMEOUT_MS = 60_000;
/** Of a command of the CLI, which may wait for a build. */
const COMMAND_TIMEOUT_MS = 120_000;

export interface UpOptions {
  readonly workDir: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface Up {
  readonly process: TestProcess;
  readonly apiUrl: string;
  readonly workDir: string;
  /** Of the file that it has made. */
  token(): Promise<string>;
  /** Runs a command of the CLI against it, which finds the token without a flag. */
  cli(...args: string[]): Promise<FinishedProcess>;
  result(jobId: string): Promise<JobResult | null>;
}

export async function launchUp({ workDir, args, env }: UpOptions): Promise<TestProcess> {
  const { cli } = await compiledBinaries();
  const flags = ["--work-dir", workDir, "--admin-listen", "127.0.0.1:0"];
  return startProcess([cli, "up", ...flags, ...args], { cwd: dirname(workDir), env });
}

/** Resolves when its worker is registered. */
export async function untilUp(process: TestProcess, workDir: string): Promise<Up> {
  const { cli } = await compiledBinaries();
  const listens = await process.waitForLine('"msg":"orchestrator listens"', { timeoutMs: START_TIMEOUT_MS });
  await process.waitForLine('"msg":"registered"', { timeoutMs: START_TIMEOUT_MS });
  const apiUrl = `http://127.0.0.1:${(JSON.parse(listens) as { admin_port: number }).admin_port}`;
  const token = async () => (await readFile(join(workDir, "admin-token"), "utf8")).trim();
  return {
    process,
    apiUrl,
    workDir,
    token,
    cli: (...command) =>
      run([cli, ...command], {
        cwd: dirname(workDir),
        env: { BLACKTREE_API: apiUrl, BLACKTREE_WORK_DIR: workDir },
        mayFail: true,
        timeoutMs: COMMAND_TIMEOUT_MS,
      }),
    async result(jobId) {
      const response = await apiRequest(apiUrl, `/api/v1/jobs/${jobId}`, {}, await token());
      return ((await response.json()) as { result: JobResult | null }).result;
    },
  };
}

/** Checks that nothing is left behind: while the programs are idle, and after they have ended. */

import { readdir, readFile } from "node:fs/promises";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { commandLines } from "../../support/blacktree/running-programs.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { messagesLeft } from "../jobs/client.ts";
import type { Site, WorkerPart } from "../site/site.ts";
import type { Breach } from "./breach.ts";

/**
 * Maximum time for a clean-up: a slot whose release was lost with Redis becomes free after two minutes of pings
 * (docs/reliability.md).
 */
const CLEAN_UP_MS = 180_000;
/** Maximum time from SIGTERM to the end of an idle program. */
const END_MS = 60_000;

interface Check {
  readonly rule: string;
  /** The remaining items, one entry each. */
  find(site: Site): Promise<readonly string[]>;
}

const WHILE_IDLE: readonly Check[] = [
  { rule: "message left in RabbitMQ", find: messages },
  { rule: "worker not free", find: busyWorkers },
  { rule: "claim left in Redis", find: claims },
  { rule: "run folder left", find: foldersOfRuns },
  { rule: "process left", find: processes },
  { rule: "container left", find: containers },
];

const AFTER_STOP: readonly Check[] = [
  { rule: "message left in RabbitMQ", find: messages },
  { rule: "file left in a work folder", find: files },
  { rule: "process left", find: processes },
  { rule: "container left", find: containers },
  { rule: "image left in the engine", find: images },
];

export function checkWhileIdle(site: Site): Promise<Breach[]> {
  return untilClean(site, WHILE_IDLE);
}

/** Stops all programs as an operator would. */
export async function checkAfterStop(site: Site): Promise<Breach[]> {
  for (const { current } of site.programs) current.process.signal("SIGTERM");
  const ends = await Promise.allSettled(site.programs.map((program) => program.exitsCleanly(END_MS)));
  const bad = ends.flatMap((end) =>
    end.status === "rejected" ? [{ rule: "bad end", what: String(end.reason), evidence: [] }] : [],
  );
  return [...bad, ...(await untilClean(site, AFTER_STOP))];
}

async function untilClean(site: Site, checks: readonly Check[]): Promise<Breach[]> {
  const found = await Promise.all(
    checks.map(async ({ rule, find }) => {
      let left: readonly string[] = [];
      const isClean = async () => {
        left = await find(site);
        return left.length === 0;
      };
      await waitFor(isClean, { timeoutMs: CLEAN_UP_MS, intervalMs: 500, what: rule }).catch(
        (error: Error) => {
          if (left.length === 0) left = [String(error.cause ?? error)];
        },
      );
      return left.map((what) => ({ rule, what, evidence: [] }));
    }),
  );
  return found.flat();
}

async function messages({ backends: { rabbitmq } }: Site): Promise<string[]> {
  const left = await messagesLeft(rabbitmq);
  return left.map(({ name, ready, unacked }) => `${name}: ${ready} waiting, ${unacked} unacked`);
}

interface ShownWorker {
  readonly address: string;
  readonly status: string;
  readonly jobs: readonly string[];
}

async function busyWorkers({ orchestrators, workers }: Site): Promise<string[]> {
  const asked = await Promise.all(
    orchestrators.map(async ({ program, apiUrl }) => {
      const response = await apiRequest(apiUrl, "/api/v1/workers", { signal: AbortSignal.timeout(5000) });
      const { items } = (await response.json()) as { items: ShownWorker[] };
      const isFree = ({ address: own }: WorkerPart) =>
        items.some(({ address, status, jobs }) => address === own && status === "FREE" && jobs.length === 0);
      return workers
        .filter((worker) => !isFree(worker))
        .map((worker) => `${worker.program.name}, according to ${program.name}: ${JSON.stringify(items)}`);
    }),
  );
  return asked.flat();
}

async function claims({ backends: { redis } }: Site): Promise<string[]> {
  const keys = await redis.cli("KEYS", "*:claim*");
  return keys.split("\n").filter((key) => key !== "");
}

async function foldersOfRuns({ workers }: Site): Promise<string[]> {
  const folders = await Promise.all(
    workers.map(async ({ workDir, program }) =>
      (await runFolders(workDir)).map((folder) => `${program.name}: ${folder}`),
    ),
  );
  return folders.flat();
}

/** Cached checkouts may stay, but none that is being removed. */
const MAY_REMAIN = /^(runs|mirrors(\/[0-9a-f-]{36}-\d+(\/.*)?)?)$/;

async function files({ workers }: Site): Promise<string[]> {
  const found = await Promise.all(
    workers.map(async ({ workDir }) => {
      const entries = await readdir(workDir, { recursive: true });
      return entries.filter((entry) => !MAY_REMAIN.test(entry)).map((entry) => `${workDir}/${entry}`);
    }),
  );
  return found.flat();
}

/** Processes of builds, by the mark in their command lines, and of runs, by their HOME. */
async function processes({ mark, workers }: Site): Promise<string[]> {
  const building = (await commandLines()).filter((line) => line.includes(mark));
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const homes = await Promise.all(pids.map(homeOf));
  const atHome = homes.filter((home) => workers.some(({ workDir }) => home.startsWith(`${workDir}/`)));
  return [...building, ...atHome];
}

async function homeOf(pid: string): Promise<string> {
  const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  const home = environment.split("\0").find((entry) => entry.startsWith("HOME="));
  return home?.slice("HOME=".length) ?? "";
}

async function containers({ backends: { docker } }: Site): Promise<string[]> {
  const { stdout } = await docker.docker(["ps", "--all", "--format", "{{.ID}} {{.Image}} {{.Status}}"]);
  return stdout.split("\n").filter((line) => line !== "");
}

async function images({ backends: { docker } }: Site): Promise<string[]> {
  const { stdout } = await docker.docker(["images", "--all", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]);
  return stdout.split("\n").filter((line) => line !== "");
}

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "../machine/wait-for.ts";

async function processIds(): Promise<string[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
}

/** The argument lists of all processes on this machine, as any local user can read them. */
export async function commandLines(): Promise<string[]> {
  const lines = await Promise.all((await processIds()).map(commandLine));
  return lines.filter((line) => line !== "");
}

/** The command lines of all processes of a worker's runs, direct or indirect: their HOME is a folder of a run. */
export async function programsOfRuns(workDir: string): Promise<string[]> {
  const isOfRun = async (pid: string) => {
    const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    return environment.split("\0").some((entry) => entry.startsWith(`HOME=${join(workDir, "runs")}/`));
  };
  const ids = await processIds();
  const isOfRuns = await Promise.all(ids.map(isOfRun));
  const lines = await Promise.all(ids.filter((_, index) => isOfRuns[index]).map(commandLine));
  return lines.filter((line) => line !== "");
}

/** A worker itself runs short programs in a folder like those of its runs, to check its builder. */
export async function untilNoProgramRuns(workDir: string): Promise<void> {
  const hasNone = async () => (await programsOfRuns(workDir)).length === 0;
  await waitFor(hasNone, { timeoutMs: 60_000, what: "the programs of the runs to end" });
}

/** The command lines of the running children of this process. A child that has ended has none, also before it is reaped. */
export async function childrenOf(pid: number): Promise<string[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "")),
  );
  const children = lists.flatMap((list) => list.trim().split(" ")).filter((child) => child !== "");
  const lines = await Promise.all(children.map(async (child) => [child, await commandLine(child)] as const));
  return lines.filter(([, line]) => line !== "").map(([child, line]) => `${child} ${line}`);
}

/** An idle worker has a child only while it checks its builder. */
export async function untilNoChildren(pid: number): Promise<void> {
  const hasNone = async () => (await childrenOf(pid)).length === 0;
  await waitFor(hasNone, { timeoutMs: 60_000, what: `the children of process ${pid} to end` });
}

/** Empty for a process that has ended since. */
async function commandLine(pid: string): Promise<string> {
  const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return line.replaceAll("\0", " ").trim();
}

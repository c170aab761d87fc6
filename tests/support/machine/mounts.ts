import { readFile } from "node:fs/promises";
import { run } from "./processes.ts";

/** Mount points at or below the folder, the innermost first. */
async function mountsBelow(dir: string): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return table
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point === dir || point.startsWith(`${dir}/`))
    .sort((a, b) => b.length - a.length);
}

export async function unmountBelow(dir: string): Promise<void> {
  for (const point of await mountsBelow(dir)) await run(["umount", "--lazy", point], { mayFail: true });
}

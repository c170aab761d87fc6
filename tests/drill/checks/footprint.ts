/** Memory and open files of the programs that run through the whole drill. */
import { readdir, readFile } from "node:fs/promises";
import type { Launch } from "../site/program.ts";
import type { Site } from "../site/site.ts";
import type { Breach } from "./breach.ts";

interface Footprint {
  readonly rssMb: number;
  readonly files: number;
}

export interface GrownProgram {
  readonly name: string;
  readonly before: Footprint;
  readonly after: Footprint;
}

/** Garbage is collected at any time: the minimum of several samples is nearest to the memory in use. */
const SAMPLES = 10;
const SAMPLE_INTERVAL_MS = 300;

/**
 * A leak would exceed this within the 1,000 jobs of a long drill. An orchestrator that has just warmed up uses 85 MB;
 * over 3,000 jobs without faults it varied between 108 and 154 MB, as its garbage was collected.
 */
const MAX_GROWTH = { factor: 2, plusMb: 32, plusFiles: 16 };

export type Footprints = ReadonlyMap<Launch, Footprint>;

export async function footprintsOf({ programs }: Site): Promise<Footprints> {
  const launches = programs.map(({ current }) => current);
  const taken = await Promise.all(
    launches.map(async (launch) => [launch, await footprintOf(launch.process.pid)] as const),
  );
  return new Map(taken);
}

export function grownBetween(before: Footprints, after: Footprints): GrownProgram[] {
  return [...after].flatMap(([launch, now]) => {
    const then = before.get(launch);
    return then ? [{ name: launch.program, before: then, after: now }] : [];
  });
}

export function checkGrowth(programs: readonly GrownProgram[]): Breach[] {
  return programs.flatMap(({ name, before, after }) => {
    const maxMb = before.rssMb * MAX_GROWTH.factor + MAX_GROWTH.plusMb;
    const maxFiles = before.files + MAX_GROWTH.plusFiles;
    return [
      ...(after.rssMb > maxMb
        ? [`${name} grew from ${before.rssMb} to ${after.rssMb} MB, above the limit of ${maxMb}`]
        : []),
      ...(after.files > maxFiles
        ? [
            `${name} had ${before.files} open files and now has ${after.files}, above the limit of ${maxFiles}`,
          ]
        : []),
    ].map((what) => ({ rule: "growth", what, evidence: [] }));
  });
}

async function footprintOf(pid: number): Promise<Footprint> {
  let least: Footprint = { rssMb: Number.POSITIVE_INFINITY, files: Number.POSITIVE_INFINITY };
  for (let sample = 0; sample < SAMPLES; sample++) {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    const rssMb = Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
    const files = (await readdir(`/proc/${pid}/fd`)).length;
    least = { rssMb: Math.min(least.rssMb, rssMb), files: Math.min(least.files, files) };
    await Bun.sleep(SAMPLE_INTERVAL_MS);
  }
  return least;
}

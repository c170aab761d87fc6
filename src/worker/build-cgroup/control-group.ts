/**
 * What the kernel says of a control group. Version 2 has one tree for all controllers; version 1 one for each, also
 * where version 2 is mounted beside it without any.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describeSize } from "../disk/free-space.ts";

/** What is set, and nothing else. */
export interface CgroupLimits {
  readonly memoryBytes?: number;
  readonly cpus?: number;
  readonly processes?: number;
}

export interface ControlGroup {
  readonly exists: boolean;
  /** The files that a limit can stand in. */
  readonly limitFiles: string;
  limits(): CgroupLimits;
  /** How many processes of it, and of those below, were ended for memory; undefined where the kernel does not count so. */
  oomKills(): number | undefined;
}

export const CGROUP_ROOT = "/sys/fs/cgroup";

/** No limit is the largest number of whole pages. */
const V1_UNLIMITED_BYTES = 2 ** 62;

export function controlGroup(path: string, root = CGROUP_ROOT): ControlGroup {
  return existsSync(join(root, "cgroup.controllers"))
    ? new ControlGroupV2(join(root, path))
    : new ControlGroupV1(path, root);
}

/** Such as "memory 4.0 GB, CPUs 1.5, processes 200"; empty without any. */
export function describeLimits({ memoryBytes, cpus, processes }: CgroupLimits): string {
  return [
    ...(memoryBytes === undefined ? [] : [`memory ${describeSize(memoryBytes)}`]),
    ...(cpus === undefined ? [] : [`CPUs ${Number(cpus.toFixed(2))}`]),
    ...(processes === undefined ? [] : [`processes ${processes}`]),
  ].join(", ");
}

class ControlGroupV2 implements ControlGroup {
  readonly limitFiles = "memory.max, cpu.max or pids.max";
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  get exists(): boolean {
    return existsSync(this.#folder);
  }

  limits(): CgroupLimits {
    const [quota, period] = this.#read("cpu.max").split(" ");
    return withoutUndefined({
      memoryBytes: parseCount(this.#read("memory.max")),
      cpus: ratio(parseCount(quota), parseCount(period)),
      processes: parseCount(this.#read("pids.max")),
    });
  }

  oomKills(): number {
    return parseCount(/^oom_kill (\d+)$/m.exec(this.#read("memory.events"))?.[1]) ?? 0;
  }

  #read(name: string): string {
    return contentOf(join(this.#folder, name));
  }
}

class ControlGroupV1 implements ControlGroup {
  readonly limitFiles = "memory.limit_in_bytes, cpu.cfs_quota_us or pids.max";
  readonly #path: string;
  readonly #root: string;

  constructor(path: string, root: string) {
    this.#path = path;
    this.#root = root;
  }

  get exists(): boolean {
    return ["memory", "cpu", "pids"].some((controller) => existsSync(this.#file(controller, "")));
  }

  limits(): CgroupLimits {
    return withoutUndefined({
      memoryBytes: this.#memoryBytes(),
      cpus: ratio(
        parseCount(this.#read("cpu", "cfs_quota_us")),
        parseCount(this.#read("cpu", "cfs_period_us")),
      ),
      processes: parseCount(this.#read("pids", "max")),
    });
  }

  /** They count only in the group of the very process, which is gone with its step. */
  oomKills(): undefined {
    return undefined;
  }

  #memoryBytes(): number | undefined {
    // Without it a group's limit does not hold for the groups below, in which the steps are.
    if (this.#read("memory", "use_hierarchy") === "0") return undefined;
    const bytes = parseCount(this.#read("memory", "limit_in_bytes"));
    return bytes !== undefined && bytes < V1_UNLIMITED_BYTES ? bytes : undefined;
  }

  #read(controller: string, name: string): string {
    return contentOf(this.#file(controller, `${controller}.${name}`));
  }

  #file(controller: string, name: string): string {
    return join(this.#root, controller, this.#path, name);
  }
}

/** Empty where there is no such file: a controller that is not switched on has none. */
function contentOf(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

/** Neither `max` nor `-1` is one. */
function parseCount(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function ratio(quota: number | undefined, period: number | undefined): number | undefined {
  return quota === undefined || period === undefined ? undefined : quota / period;
}

function withoutUndefined(limits: { [Name in keyof CgroupLimits]: number | undefined }): CgroupLimits {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}

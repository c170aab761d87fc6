/**
 * Reads the state of a control group. Version 2 has one tree for all controllers; version 1 has one tree for each
 * controller, also where a version 2 tree without controllers is mounted beside it.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describeSize } from "../disk/free-space.ts";

/** Only the limits that are set. */
export interface CgroupLimits {
  readonly memoryBytes?: number;
  readonly cpus?: number;
  readonly processes?: number;
}

export interface ControlGroup {
  readonly exists: boolean;
  /** The files that can contain a limit, for messages. */
  readonly limitFiles: string;
  limits(): CgroupLimits;
  /** Processes of this group and of those below it that the kernel killed for memory; undefined without a count. */
  oomKills(): number | undefined;
}

export const CGROUP_ROOT = "/sys/fs/cgroup";

/** Version 1 shows "no limit" as the largest number of whole pages, which is above this value. */
const V1_UNLIMITED_BYTES = 2 ** 62;

export function controlGroup(path: string, root = CGROUP_ROOT): ControlGroup {
  return existsSync(join(root, "cgroup.controllers"))
    ? new ControlGroupV2(join(root, path))
    : new ControlGroupV1(path, root);
}

/** Such as "memory 4.0 GB, CPUs 1.5, processes 200"; empty without limits. */
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

  /** Version 1 counts only in the killed process's own group, which is removed with its step. */
  oomKills(): undefined {
    return undefined;
  }

  #memoryBytes(): number | undefined {
    // Without use_hierarchy the limit does not apply to the groups below, in which the steps run.
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

/** Empty when the file does not exist: a controller that is not enabled has none. */
function contentOf(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

/** Undefined for `max` and `-1`, which mean no limit. */
function parseCount(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function ratio(quota: number | undefined, period: number | undefined): number | undefined {
  return quota === undefined || period === undefined ? undefined : quota / period;
}

function withoutUndefined(limits: { [Name in keyof CgroupLimits]: number | undefined }): CgroupLimits {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}

/**
 * Ends a git command while nothing happens. Git's helper for HTTP passes everything that the server sends on to git,
 * also progress and empty packets that keep the connection alive, so what the processes read and write shows that the
 * server lives. So does what git's own processes compute, such as index-pack, which uses no network at its end. The
 * speed limits of curl would measure the network alone, and in whole bytes per second.
 */
import { readdir, readFile } from "node:fs/promises";

const CHECKS_PER_TIMEOUT = 20;
const MIN_CHECK_INTERVAL_MS = 50;
const MAX_CHECK_INTERVAL_MS = 5000;
/** A check itself takes time, on a machine with many processes. */
const MAX_INTERVALS_PER_CHECK = 2;
/** It wakes up regularly while it waits for the server. */
const HTTP_HELPER = /^git-remote-/;

export class SilenceWatch {
  /** Aborts when the command has been silent for too long. */
  readonly signal: AbortSignal;
  readonly #timeoutMs: number;
  readonly #silent = new AbortController();
  #timer: Timer | undefined;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.signal = this.#silent.signal;
  }

  /** `group` is the id of the command's process group. */
  begin(group: number): void {
    const intervalMs = Math.min(
      MAX_CHECK_INTERVAL_MS,
      Math.max(MIN_CHECK_INTERVAL_MS, this.#timeoutMs / CHECKS_PER_TIMEOUT),
    );
    let last = "";
    let lastCheckAtMs = performance.now();
    let silentMs = 0;
    const check = async () => {
      // When the processes cannot be listed, such as without a free file descriptor, they count as alive.
      const sign = await signOfLife(group).catch(() => `unknown at ${performance.now()}`);
      const nowMs = performance.now();
      // More time between two checks is a standstill of the worker or its machine: no server could be heard then.
      const passedMs = Math.min(nowMs - lastCheckAtMs, MAX_INTERVALS_PER_CHECK * intervalMs);
      silentMs = sign === last ? silentMs + passedMs : 0;
      last = sign;
      lastCheckAtMs = nowMs;
      if (silentMs >= this.#timeoutMs) this.#silent.abort(new Error("the server is silent"));
      else if (this.#timer !== undefined) this.#timer = setTimeout(check, intervalMs);
    };
    this.#timer = setTimeout(check, intervalMs);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** Changes whenever the processes of a group have read, written or computed something. */
export async function signOfLife(group: number): Promise<string> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const signs = await Promise.all(pids.map((pid) => signOf(pid, group)));
  return signs.filter((sign) => sign !== undefined).join(" ");
}

/** Undefined for a process of another group, and for one that has ended. */
async function signOf(pid: string, group: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // proc(5): the name, which may contain spaces, then the fields from the third on.
  const [, name = "", rest = ""] = /^\d+ \((.*)\) (.*)$/s.exec(stat) ?? [];
  const fields = rest.split(" ");
  if (Number(fields[2]) !== group) return undefined;
  // An answer that git's helper keeps in memory, such as a long list of refs, shows in its page faults only.
  const [pageFaults, userTicks, systemTicks] = [fields[7], fields[11], fields[12]];
  const work = HTTP_HELPER.test(name) ? pageFaults : `${userTicks}+${systemTicks}`;
  const io = await readFile(`/proc/${pid}/io`, "utf8").catch(() => "");
  const [, readChars, writtenChars] = /^rchar: (\d+)\nwchar: (\d+)$/m.exec(io) ?? [];
  return `${pid}:${readChars}:${writtenChars}:${work}`;
}

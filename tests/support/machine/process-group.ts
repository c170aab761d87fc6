import { readdirSync, readFileSync } from "node:fs";
import { groupOf } from "./process-identity.ts";

/** Whether the process group of this leader still has a process. */
export function isGroupRunning(leader: number): boolean {
  try {
    process.kill(-leader, 0);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
    throw error;
  }
}

/** In these a thread runs no code of its program: stopped, ended, or in the kernel until an event, such as a write's end. */
const NOT_RUNNING = /^[TtZXD]/;
const STOP_TIMEOUT_MS = 120_000;

function hasStopped(pid: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) => {
      const text = readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1");
      return NOT_RUNNING.test(text.slice(text.lastIndexOf(")") + 2));
    });
  } catch {
    // The process or a thread has ended meanwhile: the next look decides.
    return groupOf(Number(pid)) === undefined;
  }
}

/**
 * Returns once no process of the group runs. After SIGSTOP, the threads of a process run until one of them has received
 * it, which takes a moment on a busy machine.
 */
export function awaitStop(leader: number): void {
  const deadlineMs = performance.now() + STOP_TIMEOUT_MS;
  while (performance.now() < deadlineMs) {
    const members = readdirSync("/proc").filter(
      (name) => /^\d+$/.test(name) && groupOf(Number(name)) === leader,
    );
    if (members.every(hasStopped)) return;
    Bun.sleepSync(1);
  }
  throw new Error(`the process group ${leader} has not stopped within ${STOP_TIMEOUT_MS} ms`);
}

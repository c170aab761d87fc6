import { dlopen, FFIType, ptr } from "bun:ffi";
import { expect } from "bun:test";

const INTERVAL_MS = 1;
/** Of processor time. A collection of garbage takes so long, also in work that blocks nothing. */
const MAX_SHORT_TURN_MS = 50;

/** As in Linux's <time.h>. */
const CLOCK_THREAD_CPUTIME_ID = 3;

const libc = dlopen("libc.so.6", {
  clock_gettime: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
});
const timespec = new BigInt64Array(2);

/** Processor time of this thread. Unlike the time of day, it stands still while other programs have the processor. */
function threadCpuMs(): number {
  if (libc.symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, ptr(timespec)) !== 0)
    throw new Error("the thread's processor time cannot be read");
  return Number(timespec[0]) * 1000 + Number(timespec[1]) / 1e6;
}

/**
 * Fails if the work blocks the event loop: if it uses half of its processor time or more in a single turn that is not
 * short. That is a ratio within one run, so neither the machine's speed nor its load counts.
 */
export async function expectToShareEventLoop(work: () => Promise<unknown>): Promise<void> {
  const startedMs = threadCpuMs();
  let longestTurnMs = 0;
  let lastMs = startedMs;
  const turn = () => {
    const nowMs = threadCpuMs();
    longestTurnMs = Math.max(longestTurnMs, nowMs - lastMs);
    lastMs = nowMs;
  };
  const timer = setInterval(turn, INTERVAL_MS);
  try {
    await work();
    turn();
  } finally {
    clearInterval(timer);
  }
  const totalMs = lastMs - startedMs;
  const blocks = longestTurnMs > MAX_SHORT_TURN_MS && longestTurnMs >= totalMs / 2;
  expect({ totalMs, longestTurnMs, blocks }).toMatchObject({ blocks: false });
}

/**
 * Keeps this process's memory, which contains secrets, out of files and away from other processes of the same user: no
 * core dumps, and no reading of /proc/<pid>/mem and /proc/<pid>/environ. Programs that it starts write no core dumps
 * either.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import type { Logger } from "./logging.ts";

/** prctl(2), setrlimit(2). */
const PR_SET_DUMPABLE = 4;
const RLIMIT_CORE = 4;

/** A failure is logged, and does not prevent the start. */
export function protectMemory(logger: Logger): void {
  try {
    disableCoreDumps();
  } catch (error) {
    logger.warn({ err: error }, "failed to disable core dumps; set the limit of their size to 0");
  }
}

function disableCoreDumps(): void {
  const { u64, i32, ptr: pointer } = FFIType;
  const libc = dlopen("libc.so.6", {
    prctl: { args: [i32, u64, u64, u64, u64], returns: i32 },
    setrlimit: { args: [i32, pointer], returns: i32 },
  });
  const limits = new BigUint64Array([0n, 0n]);
  const failed = libc.symbols.setrlimit(RLIMIT_CORE, ptr(limits)) !== 0;
  if (libc.symbols.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0 || failed)
    throw new Error("setrlimit or prctl failed");
}

/** poll(2): what would happen to a write, without writing. */
import { dlopen, FFIType, ptr } from "bun:ffi";

const POLLOUT = 4;
const POLLFD_BYTES = 8;

const poll = loadPoll();

/** Undefined with a C library other than glibc. */
function loadPoll() {
  const { ptr: pointer, u64, i32 } = FFIType;
  try {
    return dlopen("libc.so.6", { poll: { args: [pointer, u64, i32], returns: i32 } }).symbols.poll;
  } catch {
    return undefined;
  }
}

/**
 * Waits at most this long, without running anything else, until a write would not wait. Also true when a write would
 * fail at once, or poll(2) is not available.
 */
export function waitUntilWritable(fd: number, timeoutMs: number): boolean {
  return poll === undefined || eventsOf(fd, timeoutMs) !== 0;
}

function eventsOf(fd: number, timeoutMs: number): number {
  const polled = new DataView(new ArrayBuffer(POLLFD_BYTES));
  polled.setInt32(0, fd, true);
  polled.setInt16(4, POLLOUT, true);
  poll?.(ptr(polled.buffer), 1, Math.max(0, Math.ceil(timeoutMs)));
  return polled.getInt16(6, true);
}

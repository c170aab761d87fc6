/** Bounds the record of a job that is retried for days. */
export const MAX_EVENTS = 200;

/** Per repository. */
export const MAX_IMAGES = 1000;
export const MAX_IMAGES_RETURNED = 200;
/** How long the result of a job is stored whose message still waits: practically as long as it may wait. */
export const WAITING_MEMORY_MS = 365 * 24 * 60 * 60 * 1000;
export const IMAGE_MEMORY_MS = 30 * 24 * 60 * 60 * 1000;

/** Of one page of the list of jobs. */
export const MAX_RECORDS_READ = 1000;
export const MAX_BYTES_READ = 8_000_000;

const MIN_ACTIVE_MEMORY_MS = 7 * 24 * 60 * 60 * 1000;

/** How long a job may wait or run without any change before its record expires. */
export function activeMemoryMs(jobMemoryMs: number): number {
  return Math.max(jobMemoryMs, MIN_ACTIVE_MEMORY_MS);
}

/** A job that is retried for days still has a record of bounded size. */
export const MOST_EVENTS = 200;

/** Of one repository. */
export const MOST_IMAGES = 1000;
export const MOST_IMAGES_TOLD = 200;
export const IMAGE_MEMORY_MS = 30 * 24 * 60 * 60 * 1000;

const LEAST_ACTIVE_MEMORY_MS = 7 * 24 * 60 * 60 * 1000;

/** How long a job may wait or run without any news before it is forgotten. */
export function activeMemoryMs(jobMemoryMs: number): number {
  return Math.max(jobMemoryMs, LEAST_ACTIVE_MEMORY_MS);
}

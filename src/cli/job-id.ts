/** Jobs by the beginning of their id. */
import type { ApiClient } from "./api/client.ts";
import { ApiError } from "./api/error.ts";
import { JOBS } from "./api/shapes.ts";

/** The latest jobs, which one request lists. */
const LISTED = 500;
const MIN_PREFIX_CHARS = 4;
const MAX_SHOWN = 5;

/**
 * Calls `use` with the id as given; if there is no such job, with the one of the latest jobs whose id begins so. For
 * commands that change nothing.
 * @throws ApiError
 */
export async function withJob<Result>(
  api: ApiClient,
  given: string,
  use: (id: string) => Promise<Result>,
): Promise<Result> {
  try {
    return await use(given);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    const ids = given.length < MIN_PREFIX_CHARS ? [] : await idsWithPrefix(api, given);
    // The job exists, and something else of the request does not, such as an attempt.
    if (ids.includes(given)) throw error;
    const [id] = ids;
    if (id !== undefined && ids.length === 1) return use(id);
    throw ids.length === 0 ? error : new ApiError(`${ids.length} jobs begin so: ${shown(ids)}`, 404);
  }
}

async function idsWithPrefix(api: ApiClient, prefix: string): Promise<readonly string[]> {
  const { items } = await api.get<{ items: { job_id: string }[] }>(`/api/v1/jobs?limit=${LISTED}`, JOBS);
  return items.map(({ job_id }) => job_id).filter((id) => id.startsWith(prefix));
}

function shown(ids: readonly string[]): string {
  return ids.length > MAX_SHOWN ? `${ids.slice(0, MAX_SHOWN).join(", ")}, …` : ids.join(", ");
}

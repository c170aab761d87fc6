/** Announces the address at which other orchestrators read this one's logs, for as long as this one runs. */
import { sleep } from "../../shared/abort.ts";
import { RecordsUnavailable } from "../records/job-records.ts";
import type { LogPlaces } from "../records/log-places.ts";

const INTERVAL_MS = 10_000;
const RETRY_INTERVAL_MS = 500;
const TTL_MS = 30_000;

/** Resolves when `signal` aborts. */
export async function announceAddress(
  places: LogPlaces,
  orchestratorId: string,
  address: string,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const isAnnounced = await tryToAnnounce(places, orchestratorId, address);
    await sleep(isAnnounced ? INTERVAL_MS : RETRY_INTERVAL_MS, signal).catch(() => undefined);
  }
}

/** False while Redis does not answer, which its client has logged. */
async function tryToAnnounce(places: LogPlaces, orchestratorId: string, address: string): Promise<boolean> {
  try {
    await places.announce(orchestratorId, address, TTL_MS);
    return true;
  } catch (error) {
    if (error instanceof RecordsUnavailable) return false;
    throw error;
  }
}

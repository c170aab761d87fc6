/** Announces the address at which other orchestrators read this one's logs, for as long as this one runs. */
import { sleep } from "../../shared/abort.ts";
import { RecordsUnavailable } from "../records/job-records.ts";
import type { LogPlaces } from "../records/log-places.ts";

const INTERVAL_MS = 10_000;
const RETRY_INTERVAL_MS = 500;
/** Of an orchestrator that is killed. */
const TTL_MS = 30_000;

/** When `signal` aborts, it withdraws the address, and resolves. */
export async function announceAddress(
  places: LogPlaces,
  orchestratorId: string,
  address: string,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const isAnnounced = await isAnswered(places.announce(orchestratorId, address, TTL_MS));
    await sleep(isAnnounced ? INTERVAL_MS : RETRY_INTERVAL_MS, signal).catch(() => undefined);
  }
  await isAnswered(places.withdraw(orchestratorId));
}

/** False while Redis does not answer, which its client has logged. */
async function isAnswered(command: Promise<void>): Promise<boolean> {
  try {
    await command;
    return true;
  } catch (error) {
    if (error instanceof RecordsUnavailable) return false;
    throw error;
  }
}

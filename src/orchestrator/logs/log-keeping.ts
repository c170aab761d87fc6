/** What an orchestrator keeps logs with, made from its settings. */
import type { Logger } from "../../shared/logging.ts";
import type { LogPlace, LogPlaces } from "../records/log-places.ts";
import { DirectoryStore } from "./directory-store.ts";
import { type LogFolder, openLogFolder } from "./log-folder.ts";
import type { LogStore } from "./log-store.ts";

export interface LogKeeping {
  readonly folder: LogFolder;
  readonly store: LogStore;
  /** Of the logs in `store`. */
  readonly place: LogPlace;
  /** Started and closed by the orchestrator. */
  readonly places: LogPlaces;
  stop(): void;
}

export interface LogSettings {
  readonly logDir: string;
  readonly logSizeBytes: number;
  readonly logAgeMs: number;
}

/** @throws Error that names the folder when it cannot be used */
export function keepLogs(settings: LogSettings, places: LogPlaces, logger: Logger): LogKeeping {
  const folder = openLogFolder(settings.logDir);
  const limits = { sizeBytes: settings.logSizeBytes, ageMs: settings.logAgeMs };
  const store = new DirectoryStore({ folder, limits, logger });
  store.start();
  const stop = () => {
    store.stop();
    folder.close();
  };
  return { folder, store, place: { kind: "orchestrator", id: folder.id }, places, stop };
}

/** How long places of logs are remembered: the job's record may live longer than its log, or the other way round. */
export function logMemoryMs({ logAgeMs, jobMemoryMs }: { logAgeMs: number; jobMemoryMs: number }): number {
  return Math.max(logAgeMs, jobMemoryMs);
}

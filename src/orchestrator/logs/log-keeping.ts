/** An orchestrator's parts for logs, made from its settings. */
import type { Logger } from "../../shared/logging.ts";
import type { LogPlace, LogPlaces } from "../records/log-places.ts";
import { DirectoryStore } from "./directory-store.ts";
import { type LogFolder, openLogFolder } from "./log-folder.ts";
import type { LogKey, LogStore } from "./log-store.ts";
import type { S3Location } from "./s3-location.ts";
import { S3LogStore } from "./s3-store.ts";
import { LogUploads } from "./uploads.ts";

export interface LogKeeping {
  readonly folder: LogFolder;
  /** This orchestrator's own. */
  readonly store: LogStore;
  /** Of all orchestrators; undefined without BLACKTREE_LOG_STORE. */
  readonly shared: LogStore | undefined;
  /** Of the logs in `store`. */
  readonly place: LogPlace;
  readonly places: LogPlaces;
  stop(): Promise<void>;
}

export interface LogSettings {
  readonly logDir: string;
  readonly logSizeBytes: number;
  readonly logAgeMs: number;
  readonly logStore?: S3Location;
}

/** Starts everything but `places`. @throws Error that names the folder when it cannot be used */
export function keepLogs(settings: LogSettings, places: LogPlaces, logger: Logger): LogKeeping {
  const folder = openLogFolder(settings.logDir);
  const limits = { sizeBytes: settings.logSizeBytes, ageMs: settings.logAgeMs };
  const shared = settings.logStore && new S3LogStore(settings.logStore);
  let uploads: LogUploads | undefined;
  const store = new DirectoryStore({
    folder,
    limits,
    logger,
    onPending: shared && ((upload) => uploads?.add(upload)),
  });
  if (shared) {
    const onUploaded = (key: LogKey) => places.note(key, { kind: "store", id: folder.id });
    uploads = new LogUploads({ store: shared, folder: store, logger, onUploaded });
  }
  store.start();
  uploads?.start();
  return {
    folder,
    store,
    shared,
    place: { kind: "orchestrator", id: folder.id },
    places,
    async stop() {
      await uploads?.stop();
      store.stop();
      folder.close();
    },
  };
}

/** How long places of logs are remembered: the job's record may live longer than its log, or the other way round. */
export function logMemoryMs({ logAgeMs, jobMemoryMs }: { logAgeMs: number; jobMemoryMs: number }): number {
  return Math.max(logAgeMs, jobMemoryMs);
}

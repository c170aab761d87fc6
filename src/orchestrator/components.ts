/** The components of src/FLOW.md, connected with each other and with a queue, leases and records of any implementation. */
import { waitAtMost } from "../shared/abort.ts";
import type { Logger } from "../shared/logging.ts";
import { Availability } from "./availability.ts";
import { Canceller } from "./canceller.ts";
import type { SchedulingSettings } from "./config.ts";
import { Dispatcher } from "./dispatcher.ts";
import { EndedRuns } from "./ended-runs.ts";
import { HealthChecker } from "./health-checker.ts";
import { Intake } from "./intake.ts";
import { JobEvents } from "./job/events.ts";
import type { MessageRules } from "./job/message.ts";
import { JobRunner } from "./job-runner.ts";
import { KnownRegions } from "./known-regions.ts";
import type { Leases } from "./leases/leases.ts";
import type { LogCollection } from "./logs/log-collector.ts";
import { Parking } from "./parking.ts";
import type { JobQueue } from "./queue/queue.ts";
import type { JobRecords } from "./records/job-records.ts";
import { ResultHandler } from "./result-handler.ts";
import { ResultPublisher } from "./result-publisher.ts";
import { WorkerManager } from "./worker-manager.ts";
import type { WorkerClient } from "./workers/worker-client.ts";

export interface ComponentParts {
  readonly queue: JobQueue;
  readonly leases: Leases;
  readonly records: JobRecords;
  readonly logs: LogCollection;
  readonly settings: SchedulingSettings;
  readonly logger: Logger;
  /** Of the Dispatcher. */
  readonly pollIntervalMs?: number;
  connect(address: string): WorkerClient;
}

export interface Components {
  readonly workers: WorkerManager;
  readonly canceller: Canceller;
  readonly regions: KnownRegions;
  readonly rules: MessageRules;
  /** Jobs that this orchestrator processes now. */
  running(): number;
  start(): void;
  /** Takes no new jobs; resolves when this orchestrator processes none. */
  drain(): Promise<void>;
  /** Waits only for a limited time, for example while a broker blocks publishers. */
  stop(): Promise<void>;
}

/** How long the intake may take to finish what it has begun. */
const STOP_INTAKE_MS = 3000;

export function createComponents(parts: ComponentParts): Components {
  const { queue, leases, records, settings, logger } = parts;
  const git = { baseUrl: settings.gitBaseUrl, allowedHosts: settings.gitAllowedHosts };
  const rules = { git, defaultRegion: settings.region, secretLimit: settings.secretLimit };
  const events = new JobEvents(records, queue, logger);
  const publisher = new ResultPublisher({ ...parts, events });
  const results = new ResultHandler({ ...parts, ...settings, events, publisher });
  const workers = new WorkerManager({ ...parts, ...settings, events });
  const runner = new JobRunner({ leases, records, workers, results, logger });
  const dispatcher = new Dispatcher({ ...parts, ...settings, workers, runner, results, rules });
  const onCancelled = (jobId: string) => dispatcher.onCancelled(jobId);
  const canceller = new Canceller({ ...parts, publisher, onCancelled });
  const regions = new KnownRegions({ ...settings, leases, records, logger });
  const parking = new Parking({ ...settings, queue, regions, logger });
  const onEnded = onCancelled;
  const intake = new Intake({
    ...parts,
    ...settings,
    events,
    publisher,
    canceller,
    regions,
    parking,
    rules,
    onEnded,
  });
  const endedRuns = new EndedRuns({ records, leases, logger });
  const onUnawaited = (jobIds: readonly string[]) => {
    dispatcher.recoverUnawaited(jobIds);
    void endedRuns.release(jobIds);
  };
  const onNoneReached = () => void dispatcher.returnHeld();
  const healthChecker = new HealthChecker({ ...parts, ...settings, onUnawaited, onNoneReached });
  const availability = new Availability({ leases, records, intake, dispatcher, logger });
  return {
    workers,
    canceller,
    regions,
    rules,
    running: () => dispatcher.running,
    start() {
      for (const component of [dispatcher, healthChecker, canceller, regions, parking, intake, availability])
        component.start();
    },
    async drain() {
      availability.stop();
      await intake.stop();
      await dispatcher.stop();
      await dispatcher.idle();
    },
    async stop() {
      availability.stop();
      await waitAtMost(STOP_INTAKE_MS, intake.stop());
      await dispatcher.stop();
      for (const component of [healthChecker, canceller, regions, parking, publisher]) component.stop();
    },
  };
}

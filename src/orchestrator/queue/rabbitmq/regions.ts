/**
 * The set of regions that may have waiting jobs, stored in RabbitMQ itself: AMQP cannot list queues, and Redis may have
 * lost its data. Queue `jobs.ready.regions` holds one message per region, published after the region's ready queues were
 * declared and before its first job. Every orchestrator reads all of them and removes none. While one reads, another
 * sees only the rest; so each reads again, soon at first and then every minute or so.
 * (A stream queue would be the obvious choice, but Amazon MQ does not support them.)
 */
import { orAbort, sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyQueue } from "../queue.ts";
import { answered, asOpenChannel, closeGracefully, type Session } from "./channel.ts";
import { nearsDeliveryLimit } from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import { ensureQueue, ensureReadyQueues, type Names, readyQueueName, regionQueue } from "./topology.ts";

const READ_DELAY = { initialMs: 500, maxMs: 60_000 };

export interface RegionsOptions {
  readonly names: Names;
  readonly publisher: Publisher;
  readonly closing: AbortSignal;
  readonly logger: Logger;
  /** A new region is known, and its ready queues exist. */
  readonly onRegion: (region: string) => void;
}

export class Regions {
  /** In the order of discovery; only grows. */
  readonly #known = new Set<string>();
  /** By region, in this session: its ready queues are declared. */
  #declared = new Map<string, Promise<void>>();
  /** By region, in this session: see `keep`. */
  #keeping = new Map<string, Promise<void>>();
  /** Regions whose message was seen or confirmed in this session: the broker may have lost earlier ones. */
  #kept = new Set<string>();
  /** Known regions whose message was not found by the last read. */
  #missing: ReadonlySet<string> = new Set();
  #session: Session | undefined;
  /** Ready queues that another program has declared; see `ensureReadyQueues`. */
  readonly #foreign = new Set<string>();

  constructor(private readonly options: RegionsOptions) {}

  /** Another program has declared this ready queue, perhaps with a low delivery limit. */
  isForeign(readyQueue: ReadyQueue): boolean {
    return this.#foreign.has(readyQueueName(this.options.names, readyQueue));
  }

  get known(): readonly string[] {
    return [...this.#known];
  }

  async attach(session: Session): Promise<void> {
    this.#session = session;
    this.#declared = new Map();
    this.#keeping = new Map();
    this.#kept = new Set();
    await this.#read(session);
    await Promise.all(
      [...this.#known].map((region) => this.#declare(session, region, !this.#kept.has(region))),
    );
    void this.#keepReading(session);
  }

  /**
   * Declares the region's ready queues and publishes its message, unless both were done in this session. All callers wait
   * for the same work, so jobs of a region stay in the order of their calls.
   */
  keep(region: string, signal?: AbortSignal): Promise<void> {
    return orAbort(
      once(this.#keeping, region, () => this.#keepNow(region)),
      signal,
    );
  }

  async #keepNow(region: string): Promise<void> {
    const [keeping, kept] = [this.#keeping, this.#kept];
    const isDeclared = await this.#learn(region, !kept.has(region)).then(
      () => true,
      (error) => {
        // The publish that follows declares a ready queue that does not exist.
        this.options.logger.warn({ err: error, region }, "failed to declare the ready queues of a region");
        return false;
      },
    );
    if (!kept.has(region)) await this.#publish(region);
    kept.add(region);
    if (!isDeclared) keeping.delete(region);
  }

  async #learn(region: string, isFirst: boolean): Promise<void> {
    const session = this.#session;
    if (session && !session.lost.aborted) await this.#declare(session, region, isFirst);
    if (this.#known.has(region)) return;
    this.#known.add(region);
    this.options.onRegion(region);
  }

  /** To be called when a ready queue of the region does not exist. */
  async declareAgain(region: string): Promise<void> {
    this.#declared.delete(region);
    await this.#learn(region, false);
  }

  /** @param isFirst whether another orchestrator may be declaring them right now, for the first time */
  #declare(session: Session, region: string, isFirst: boolean): Promise<void> {
    return once(this.#declared, region, () => this.#declareNow(session, region, isFirst));
  }

  async #declareNow(session: Session, region: string, isFirst: boolean): Promise<void> {
    const { names } = this.options;
    const foreign = await ensureReadyQueues(session, names, region, isFirst);
    for (const priority of PRIORITIES) this.#foreign.delete(readyQueueName(names, { region, priority }));
    for (const name of foreign) this.#foreign.add(name);
  }

  #publish(region: string): Promise<void> {
    const queue = regionQueue(this.options.names);
    return this.options.publisher.publish(
      { queue, body: Buffer.from(region), options: { contentType: "text/plain" } },
      {
        declare: async () => {
          if (this.#session) await ensureQueue(this.#session, queue);
        },
      },
    );
  }

  async #keepReading(session: Session): Promise<void> {
    const delay = new Backoff(READ_DELAY);
    for (;;) {
      try {
        await sleep(delay.nextMs(), session.lost);
      } catch {
        return;
      }
      if (this.options.closing.aborted) return;
      await this.#read(session).catch((error) => {
        if (!session.lost.aborted)
          this.options.logger.warn({ err: error }, "failed to read the regions with waiting jobs");
      });
    }
  }

  /** Gets every message, acks duplicates, and returns one message of each region to the queue. */
  async #read(session: Session): Promise<void> {
    const open = await asOpenChannel(session.model.createChannel(), this.options.logger);
    const returned = new Set<string>();
    const queue = regionQueue(this.options.names);
    try {
      for (;;) {
        const message = await answered(session, `queue ${queue}`, open.channel.get(queue));
        if (message === false) break;
        const region = message.content.toString("utf8");
        if (returned.has(region)) open.channel.ack(message);
        else if (nearsDeliveryLimit(message)) {
          // The copy arrives later in this loop. It is the one to return: nothing but it may be left of the region.
          await this.#publish(region);
          open.channel.ack(message);
        } else returned.add(region);
      }
    } finally {
      // Closing the channel returns the unacked messages to the queue.
      await closeGracefully(open);
    }
    for (const region of returned) this.#kept.add(region);
    await Promise.all([...returned].map((region) => this.#learn(region, false)));
    await this.#restoreMissing(returned);
  }

  /**
   * Publishes regions whose message is gone, for example because an operator has purged the queue. Another orchestrator
   * that reads at the same time hides messages, so only a region that was missing twice counts; a duplicate is harmless.
   */
  async #restoreMissing(found: ReadonlySet<string>): Promise<void> {
    const missing = this.known.filter((region) => !found.has(region));
    const missingTwice = missing.filter((region) => this.#missing.has(region));
    this.#missing = new Set(missing);
    for (const region of missingTwice) {
      this.options.logger.warn(
        { region },
        "region with waiting jobs is missing in the queue of regions, restoring it",
      );
      await this.#publish(region);
    }
  }
}

/** All callers share the work of the first one. Work that fails is removed, so that the next caller tries again. */
function once(running: Map<string, Promise<void>>, region: string, work: () => Promise<void>): Promise<void> {
  const first = running.get(region);
  if (first) return first;
  const promise = work().catch((error) => {
    running.delete(region);
    throw error;
  });
  running.set(region, promise);
  return promise;
}

/**
 * The set of regions that may hold waiting jobs, kept in RabbitMQ itself: AMQP cannot list queues, and Redis may have
 * lost everything. Queue `jobs.ready.regions` holds one message a region, published before the first job of that
 * region. Every orchestrator reads them all, without taking any away. While one reads, another sees only the rest;
 * so each reads again, soon at first and then every minute or so, and hears of new regions by events meanwhile.
 * (A stream queue would be the obvious place, but Amazon MQ has none.)
 */
import type { GetMessage } from "amqplib";
import { sleep } from "../../../shared/abort.ts";
import { GrowingDelay } from "../../../shared/backoff.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Logger } from "../../../shared/logging.ts";
import { asOpenChannel, closeInOrder, type Session } from "./channel.ts";
import { wearsOut } from "./delivery.ts";
import type { Publisher } from "./publisher.ts";
import { ensureQueue, type Names, readyQueueName, regionQueue } from "./topology.ts";

const READ_DELAY = { firstMs: 500, mostMs: 60_000 };

export interface RegionsOptions {
  readonly names: Names;
  readonly publisher: Publisher;
  readonly closing: AbortSignal;
  readonly logger: Logger;
  /** A region became known, and its ready queues exist. */
  readonly onRegion: (region: string) => void;
}

export class Regions {
  /** In the order in which they became known; only grows. */
  readonly #known = new Set<string>();
  /** Regions whose ready queues were declared in this session. A failed declaration is forgotten, so that it is tried again. */
  #declared = new Map<string, Promise<void>>();
  /** Regions whose message was seen or confirmed in this session: the broker may have lost what it had before. */
  #kept = new Set<string>();
  #session: Session | undefined;

  constructor(private readonly options: RegionsOptions) {}

  get known(): readonly string[] {
    return [...this.#known];
  }

  async attach(session: Session): Promise<void> {
    this.#session = session;
    this.#declared = new Map();
    this.#kept = new Set();
    await ensureQueue(session, regionQueue(this.options.names));
    await this.#read(session);
    await Promise.all([...this.#known].map((region) => this.#declare(session, region)));
    void this.#keepReading(session);
  }

  /** To be called before a job is put into one of the region's ready queues. */
  async keep(region: string, signal?: AbortSignal): Promise<void> {
    if (!this.#kept.has(region)) {
      const kept = this.#kept;
      await this.#publish(region, signal);
      kept.add(region);
    }
    await this.learn(region).catch((error) => {
      // The publish that follows finds the ready queue missing and declares it then.
      this.options.logger.warn({ err: error, region }, "the ready queues of a region could not be declared");
    });
  }

  /** Somebody has offered, or is about to offer, a job for this region. */
  async learn(region: string): Promise<void> {
    const session = this.#session;
    if (session && !session.lost.aborted) await this.#declare(session, region);
    if (this.#known.has(region)) return;
    this.#known.add(region);
    this.options.onRegion(region);
  }

  /** The ready queues turned out to be missing. */
  async declareAgain(region: string): Promise<void> {
    this.#declared.delete(region);
    await this.learn(region);
  }

  #declare(session: Session, region: string): Promise<void> {
    const running = this.#declared.get(region);
    if (running) return running;
    const declared = this.#declared;
    const declaring = Promise.all(
      PRIORITIES.map((priority) =>
        ensureQueue(session, readyQueueName(this.options.names, { region, priority })),
      ),
    ).then(
      () => undefined,
      (error) => {
        declared.delete(region);
        throw error;
      },
    );
    declared.set(region, declaring);
    return declaring;
  }

  #publish(region: string, signal?: AbortSignal): Promise<void> {
    const queue = regionQueue(this.options.names);
    return this.options.publisher.publish(
      { queue, body: Buffer.from(region), options: { contentType: "text/plain" } },
      async () => {
        if (this.#session) await ensureQueue(this.#session, queue);
      },
      signal,
    );
  }

  async #keepReading(session: Session): Promise<void> {
    const delay = new GrowingDelay(READ_DELAY);
    for (;;) {
      try {
        await sleep(delay.nextMs(), session.lost);
      } catch {
        return;
      }
      if (this.options.closing.aborted) return;
      await this.#read(session).catch((error) => {
        if (!session.lost.aborted)
          this.options.logger.warn({ err: error }, "the regions with waiting jobs could not be read");
      });
    }
  }

  /** Gets every message, keeps one of each region, and lets all of those go back. */
  async #read(session: Session): Promise<void> {
    const open = await asOpenChannel(session.model.createChannel(), this.options.logger);
    const seen = new Set<string>();
    try {
      for (;;) {
        const message = await open.channel.get(regionQueue(this.options.names));
        if (message === false) break;
        const region = message.content.toString("utf8");
        if (seen.has(region) || (await this.#renewed(message, region))) open.channel.ack(message);
        seen.add(region);
      }
    } finally {
      // Closing the channel gives back what was not acked.
      await closeInOrder(open);
    }
    for (const region of seen) this.#kept.add(region);
    await Promise.all([...seen].map((region) => this.learn(region)));
  }

  async #renewed(message: GetMessage, region: string): Promise<boolean> {
    if (!wearsOut(message)) return false;
    await this.#publish(region);
    return true;
  }
}

/** The exchange for every change of a job's state, which also announces queued jobs to other orchestrators. */
import type { Channel, ConsumeMessage } from "amqplib";
import type { JobEvent, Priority } from "../../../shared/job.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyQueue } from "../queue.ts";
import { answered, type OpenChannel, ReopeningChannel, type Session } from "./channel.ts";
import { isNotFound, refusalOf } from "./refusal.ts";
import { ensureEventExchange, type Names } from "./topology.ts";

export interface EventsOptions {
  readonly names: Names;
  readonly closing: AbortSignal;
  readonly logger: Logger;
  /** According to an event, an orchestrator publishes a job to this ready queue; its region may not exist. */
  readonly onQueued: (readyQueue: ReadyQueue) => void;
}

/** After a refused event: each refusal closes the channel, and the next event would be refused too. */
const REFUSED_PAUSE_MS = 10_000;

export class Events {
  readonly #channel: ReopeningChannel<Channel>;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: EventsOptions) {
    this.#channel = new ReopeningChannel({
      open: (model) => model.createChannel(),
      prepare: (open, session) => this.#listen(open, session),
      ...options,
    });
  }

  attach(session: Session): Promise<void> {
    return this.#channel.attach(session);
  }

  publish(event: JobEvent): void {
    const open = this.#channel.current;
    const fields = { job_id: event.job_id, seq: event.seq, state: event.state };
    if (performance.now() < this.#pausedUntilMs) {
      this.options.logger.debug(fields, "event not published: RabbitMQ has refused an earlier one");
      return;
    }
    if (!open) {
      this.options.logger.warn(fields, "event not published: RabbitMQ is not connected");
      return;
    }
    try {
      open.channel.publish(
        this.options.names.eventExchange,
        `job.${event.state.toLowerCase()}`,
        Buffer.from(JSON.stringify(event)),
        { persistent: true, contentType: "application/json", messageId: `${event.job_id}.${event.seq}` },
      );
    } catch (error) {
      this.options.logger.warn({ ...fields, err: error }, "event not published");
    }
  }

  async #listen(open: OpenChannel, session: Session): Promise<void> {
    open.lost.addEventListener("abort", () => this.#onLost(open), { once: true });
    await ensureEventExchange(session, this.options.names);
    await answered(
      session,
      `a queue bound to exchange ${this.options.names.eventExchange}`,
      this.#consume(open.channel),
    );
  }

  #onLost(open: OpenChannel): void {
    const refusal = refusalOf(open);
    // An exchange that does not exist is declared when the channel is reopened.
    if (!refusal || isNotFound(refusal)) return;
    this.#pausedUntilMs = performance.now() + REFUSED_PAUSE_MS;
    this.options.logger.warn(
      { exchange: this.options.names.eventExchange, answer: refusal.text, pause_ms: REFUSED_PAUSE_MS },
      "RabbitMQ refused an event; none is published for a while",
    );
  }

  async #consume(channel: Channel): Promise<void> {
    const { queue } = await channel.assertQueue("", {
      exclusive: true,
      autoDelete: true,
      durable: false,
      // A virtual host may have another default type that does not support exclusive queues.
      arguments: { "x-queue-type": "classic" },
    });
    await channel.bindQueue(queue, this.options.names.eventExchange, "job.queued");
    await channel.consume(
      queue,
      (message) => {
        if (message) this.#receive(message);
        // The broker cancelled the consumer: the channel is reopened, which declares and binds the queue again.
        else void channel.close().catch(() => undefined);
      },
      { noAck: true },
    );
  }

  #receive(message: ConsumeMessage): void {
    const readyQueue = parseReadyQueue(message.content);
    if (readyQueue) this.options.onQueued(readyQueue);
  }
}

/** Any client may publish to the exchange, so every field is checked. */
function parseReadyQueue(body: Buffer): ReadyQueue | undefined {
  let event: unknown;
  try {
    event = JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof event !== "object" || event === null) return undefined;
  const { worker_region: region, priority } = event as Record<string, unknown>;
  return typeof region === "string" && region !== "" && isPriority(priority)
    ? { region, priority }
    : undefined;
}

function isPriority(value: unknown): value is Priority {
  return PRIORITIES.some((priority) => priority === value);
}

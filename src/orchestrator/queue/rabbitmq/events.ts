/** The exchange that every change of a job's state goes to, and what orchestrators hear on it from one another. */
import type { Channel, ConsumeMessage } from "amqplib";
import type { JobEvent, Priority } from "../../../shared/job.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyQueue } from "../queue.ts";
import { LastingChannel, type OpenChannel, type Session } from "./channel.ts";
import { ensureEventExchange, type Names } from "./topology.ts";

export interface EventsOptions {
  readonly names: Names;
  readonly closing: AbortSignal;
  readonly logger: Logger;
  /** Some orchestrator has put a job into this ready queue. */
  readonly onQueued: (readyQueue: ReadyQueue) => void;
}

export class Events {
  readonly #channel: LastingChannel<Channel>;

  constructor(private readonly options: EventsOptions) {
    this.#channel = new LastingChannel({
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
    if (!open) {
      this.options.logger.warn(fields, "an event was not published: RabbitMQ is away");
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
      this.options.logger.warn({ ...fields, err: error }, "an event was not published");
    }
  }

  async #listen({ channel }: OpenChannel, session: Session): Promise<void> {
    await ensureEventExchange(session, this.options.names);
    const { queue } = await channel.assertQueue("", {
      exclusive: true,
      autoDelete: true,
      durable: false,
      // A virtual host whose default is another type may refuse that for an exclusive queue.
      arguments: { "x-queue-type": "classic" },
    });
    await channel.bindQueue(queue, this.options.names.eventExchange, "job.queued");
    await channel.consume(
      queue,
      (message) => {
        if (message) this.#hear(message);
        // The channel that follows declares and binds again. Its end is no news.
        else void channel.close().catch(() => undefined);
      },
      { noAck: true },
    );
  }

  #hear(message: ConsumeMessage): void {
    const readyQueue = parseReadyQueue(message.content);
    if (readyQueue) this.options.onQueued(readyQueue);
  }
}

/** Anybody may publish to the exchange, so nothing is taken for granted. */
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

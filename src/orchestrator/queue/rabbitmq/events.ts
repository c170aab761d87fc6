/** The exchange for every change of a job's state, which also announces queued jobs to other orchestrators. */
import type { Channel, ConsumeMessage } from "amqplib";
import type { JobEvent, Priority } from "../../../shared/job.ts";
import { PRIORITIES } from "../../../shared/job.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { ReadyQueue } from "../queue.ts";
import { answered, type OpenChannel, ReopeningChannel, type Session } from "./channel.ts";
import { ensureEventExchange, type Names } from "./topology.ts";

export interface EventsOptions {
  readonly names: Names;
  readonly closing: AbortSignal;
  readonly logger: Logger;
  /** According to an event, an orchestrator publishes a job to this ready queue; its region may not exist. */
  readonly onQueued: (readyQueue: ReadyQueue) => void;
}

export class Events {
  readonly #channel: ReopeningChannel<Channel>;

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

  async #listen({ channel }: OpenChannel, session: Session): Promise<void> {
    await ensureEventExchange(session, this.options.names);
    await answered(
      session,
      `a queue bound to exchange ${this.options.names.eventExchange}`,
      this.#consume(channel),
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

/**
 * RabbitMQ lists a quorum queue before the queue works: for a moment, another client finds it, but its `get` or `consume`
 * closes the client's connection (541), and its publish is refused. So declarations of Blacktree's queues, and checks
 * whether they are complete, are done by one client at a time. The lock is an exclusive queue, which ends with the
 * connection of its holder.
 */
import { sleep } from "../../../shared/abort.ts";
import { Backoff } from "../../../shared/backoff.ts";
import { answered, type DeclarationLock, onDedicatedChannel, type Session } from "./channel.ts";
import { replyCode } from "./topology.ts";

const RETRY_DELAY = { initialMs: 50, maxMs: 1_000 };
const RESOURCE_LOCKED = 405;
const ACCESS_REFUSED = 403;

export class ExclusiveQueueLock implements DeclarationLock {
  /** Of this connection: the broker grants an exclusive queue to its own connection again. */
  #last: Promise<unknown> = Promise.resolve();

  /** `name` of the exclusive queue */
  constructor(private readonly name: string) {}

  run(session: Session, declare: () => Promise<void>): Promise<void> {
    const run = this.#last.then(() => this.#runLocked(session, declare));
    this.#last = run.catch(() => undefined);
    return run;
  }

  async #runLocked(session: Session, declare: () => Promise<void>): Promise<void> {
    const isAcquired = await answered(session, `queue ${this.name}`, this.#acquire(session));
    try {
      await declare();
    } finally {
      if (isAcquired && !session.lost.aborted) await this.#release(session);
    }
  }

  /** False when the RabbitMQ user may not declare this queue: it may not declare others either, only use them. */
  async #acquire(session: Session): Promise<boolean> {
    const delay = new Backoff(RETRY_DELAY);
    for (;;) {
      const answer = await this.#tryToAcquire(session);
      if (answer !== "held") return answer === "acquired";
      await sleep(delay.nextMs(), session.lost);
    }
  }

  async #tryToAcquire(session: Session): Promise<"acquired" | "held" | "forbidden"> {
    try {
      await onDedicatedChannel(session, `queue ${this.name}`, (channel) =>
        channel.assertQueue(this.name, {
          exclusive: true,
          durable: false,
          // A virtual host may have another default type that does not support exclusive queues.
          arguments: { "x-queue-type": "classic" },
        }),
      );
      return "acquired";
    } catch (error) {
      if (replyCode(error) === RESOURCE_LOCKED) return "held";
      if (replyCode(error) === ACCESS_REFUSED) return "forbidden";
      throw error;
    }
  }

  async #release(session: Session): Promise<void> {
    await onDedicatedChannel(session, `queue ${this.name}`, (channel) => channel.deleteQueue(this.name));
  }
}

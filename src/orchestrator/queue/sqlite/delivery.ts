import type { Delivery, Envelope, MessageProperties, ReadyDelivery, ReadyQueue } from "../queue.ts";

export interface MessageRow {
  readonly id: number;
  readonly body: Uint8Array;
  readonly message_id: string | null;
  readonly correlation_id: string | null;
  readonly reply_to: string | null;
  readonly job_id: string | null;
  readonly accepted_at: number | null;
  readonly default_region: string | null;
  readonly attempts: number;
  readonly last_worker_id: string;
  readonly deliveries: number;
}

export interface Settlement {
  ack(delivery: SqliteDelivery): void;
  requeue(delivery: SqliteDelivery): Promise<void>;
}

export class SqliteDelivery implements Delivery {
  readonly body: Buffer;
  readonly properties: MessageProperties;
  readonly redelivered: boolean;
  readonly #revoked = new AbortController();
  #settled = false;

  constructor(
    row: MessageRow,
    private readonly settlement: Settlement,
  ) {
    this.body = Buffer.from(row.body);
    this.properties = {
      messageId: row.message_id ?? undefined,
      correlationId: row.correlation_id ?? undefined,
      replyTo: row.reply_to ?? undefined,
    };
    this.redelivered = row.deliveries > 1;
  }

  get revoked(): AbortSignal {
    return this.#revoked.signal;
  }

  ack(): void {
    if (this.#settled) return;
    this.#settled = true;
    this.settlement.ack(this);
  }

  async requeue(): Promise<boolean> {
    if (this.#settled) return true;
    this.#settled = true;
    await this.settlement.requeue(this);
    return true;
  }

  revoke(reason: Error): void {
    this.#settled = true;
    this.#revoked.abort(reason);
  }
}

export class SqliteReadyDelivery extends SqliteDelivery implements ReadyDelivery {
  constructor(
    row: MessageRow,
    settlement: Settlement,
    readonly readyQueue: ReadyQueue,
    readonly envelope: Envelope,
  ) {
    super(row, settlement);
  }

  /** No other process reads the file. */
  async heldForMs(): Promise<number> {
    return Number.POSITIVE_INFINITY;
  }
}

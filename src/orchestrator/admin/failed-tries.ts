/** Slows down clients that try tokens: each may fail a few times at once, and then only at a steady, low rate. */
export interface FailedTriesOptions {
  /** Failures that a client may have at once. */
  readonly burst: number;
  /** Afterwards, one more failure each. */
  readonly intervalMs: number;
  /** Bounds the memory; the client whose last failure is the longest ago is forgotten first. */
  readonly maxClients: number;
  /** Monotonic. */
  readonly nowMs?: () => number;
}

export class FailedTries {
  readonly #options: Required<FailedTriesOptions>;
  /** By client, when all of its failures are forgiven; in the order of the last failure. */
  readonly #forgivenAtMs = new Map<string, number>();

  constructor(options: FailedTriesOptions) {
    this.#options = { nowMs: () => performance.now(), ...options };
  }

  /** How long the client has to wait until its next try is considered; 0 if it need not wait. */
  waitMs(client: string): number {
    const { burst, intervalMs, nowMs } = this.#options;
    const forgivenInMs = (this.#forgivenAtMs.get(client) ?? 0) - nowMs();
    return Math.max(0, forgivenInMs - (burst - 1) * intervalMs);
  }

  add(client: string): void {
    const { intervalMs, maxClients, nowMs } = this.#options;
    const forgivenAtMs = Math.max(nowMs(), this.#forgivenAtMs.get(client) ?? 0) + intervalMs;
    this.#forgivenAtMs.delete(client);
    this.#forgivenAtMs.set(client, forgivenAtMs);
    if (this.#forgivenAtMs.size <= maxClients) return;
    const [oldest] = this.#forgivenAtMs.keys();
    if (oldest !== undefined) this.#forgivenAtMs.delete(oldest);
  }
}

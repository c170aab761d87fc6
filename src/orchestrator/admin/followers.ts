/** Limits the clients that follow a log: each holds a connection to a worker, and polls the job's record. */
export interface FollowerLimits {
  readonly perClient: number;
  readonly total: number;
}

export class Followers {
  readonly #limits: FollowerLimits;
  readonly #byClient = new Map<string, number>();
  #total = 0;

  constructor(limits: FollowerLimits) {
    this.#limits = limits;
  }

  /** A function to call once when the client stops following; or which limit refuses it. */
  enter(client: string): (() => void) | keyof FollowerLimits {
    const current = this.#byClient.get(client) ?? 0;
    if (current >= this.#limits.perClient) return "perClient";
    if (this.#total >= this.#limits.total) return "total";
    this.#change(client, 1);
    return () => this.#change(client, -1);
  }

  #change(client: string, by: 1 | -1): void {
    const current = (this.#byClient.get(client) ?? 0) + by;
    if (current === 0) this.#byClient.delete(client);
    else this.#byClient.set(client, current);
    this.#total += by;
  }
}

/** Authorization tokens of ECR, kept for as long as they are good for a whole run. */

export interface EcrToken {
  readonly username: string;
  readonly password: string;
  readonly proxyEndpoint: string;
  readonly expiresAt: Date;
}

export interface UsableEcrToken extends EcrToken {
  /** In ms since 1970. */
  readonly usableUntilMs: number;
}

export class EcrTokenCache {
  readonly #usableForMs: number;
  readonly #now: () => number;
  readonly #tokens = new Map<string, UsableEcrToken>();
  readonly #pending = new Map<string, Promise<UsableEcrToken>>();

  /**
   * `usableForMs`: a token that does not live for so long any more may end during the run that it is given to. Of a
   * short-lived one, the last quarter of its life counts so.
   */
  constructor(usableForMs: number, now: () => number = Date.now) {
    this.#usableForMs = usableForMs;
    this.#now = now;
  }

  /** One request at a time per key, for however many callers; so it must not end with one of them. */
  get(key: string, request: () => Promise<EcrToken>): Promise<UsableEcrToken> {
    const kept = this.#tokens.get(key);
    if (kept && kept.usableUntilMs > this.#now()) return Promise.resolve(kept);
    const pending = this.#pending.get(key) ?? this.#request(key, request);
    this.#pending.set(key, pending);
    return pending;
  }

  /** After the registry refused it: the next caller gets another one, unless somebody has it already. */
  forget(key: string, refused: UsableEcrToken): void {
    if (this.#tokens.get(key) === refused) this.#tokens.delete(key);
  }

  async #request(key: string, request: () => Promise<EcrToken>): Promise<UsableEcrToken> {
    try {
      const token = await request();
      const usable = { ...token, usableUntilMs: this.#usableUntilMs(token) };
      this.#tokens.set(key, usable);
      return usable;
    } finally {
      this.#pending.delete(key);
    }
  }

  /** In the past for one that has ended already: it is used by those who asked for it, and by nobody else. */
  #usableUntilMs({ expiresAt }: EcrToken): number {
    const leftMs = expiresAt.getTime() - this.#now();
    return expiresAt.getTime() - Math.min(this.#usableForMs, Math.max(0, leftMs / 4));
  }
}

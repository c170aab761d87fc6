/** ECR authorization tokens, cached while they are valid long enough for a whole run. */

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
   * `usableForMs`: a token with a shorter remaining lifetime may expire during a run, so it is not reused. A
   * short-lived token is not reused in the last quarter of its lifetime.
   */
  constructor(usableForMs: number, now: () => number = Date.now) {
    this.#usableForMs = usableForMs;
    this.#now = now;
  }

  /** Concurrent callers with the same key share one request, so the request must not be aborted with one of them. */
  get(key: string, request: () => Promise<EcrToken>): Promise<UsableEcrToken> {
    const kept = this.#tokens.get(key);
    if (kept && kept.usableUntilMs > this.#now()) return Promise.resolve(kept);
    const pending = this.#pending.get(key) ?? this.#request(key, request);
    this.#pending.set(key, pending);
    return pending;
  }

  /** Called after the registry refused the token. A newer token that is cached already stays. */
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

  /** In the past for a token that has already expired: only the callers of this request use it. */
  #usableUntilMs({ expiresAt }: EcrToken): number {
    const leftMs = expiresAt.getTime() - this.#now();
    return expiresAt.getTime() - Math.min(this.#usableForMs, Math.max(0, leftMs / 4));
  }
}

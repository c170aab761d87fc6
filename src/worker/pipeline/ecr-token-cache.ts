/** Authorization tokens of ECR, kept for as long as they are good for a whole run. */

export interface EcrToken {
  readonly username: string;
  readonly password: string;
  readonly proxyEndpoint: string;
  readonly expiresAt: Date;
}

interface KeptToken {
  readonly token: EcrToken;
  readonly usableUntilMs: number;
}

export class EcrTokenCache {
  readonly #usableForMs: number;
  readonly #now: () => number;
  readonly #kept = new Map<string, KeptToken>();
  readonly #underWay = new Map<string, Promise<EcrToken>>();

  /**
   * `usableForMs`: a token that does not live for so long any more may end during the run that it is given to. Of a
   * short-lived one, the last quarter of its life counts so.
   */
  constructor(usableForMs: number, now: () => number = Date.now) {
    this.#usableForMs = usableForMs;
    this.#now = now;
  }

  /** One request at a time per key, for however many callers; so it must not end with one of them. */
  get(key: string, request: () => Promise<EcrToken>): Promise<EcrToken> {
    const kept = this.#kept.get(key);
    if (kept && kept.usableUntilMs > this.#now()) return Promise.resolve(kept.token);
    const underWay = this.#underWay.get(key) ?? this.#ask(key, request);
    this.#underWay.set(key, underWay);
    return underWay;
  }

  async #ask(key: string, request: () => Promise<EcrToken>): Promise<EcrToken> {
    try {
      const token = await request();
      this.#kept.set(key, { token, usableUntilMs: this.#usableUntilMs(token) });
      return token;
    } finally {
      this.#underWay.delete(key);
    }
  }

  /** In the past for one that has ended already: it is used by those who asked for it, and by nobody else. */
  #usableUntilMs({ expiresAt }: EcrToken): number {
    const leftMs = expiresAt.getTime() - this.#now();
    return expiresAt.getTime() - Math.min(this.#usableForMs, Math.max(0, leftMs / 4));
  }
}

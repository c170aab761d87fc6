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
  readonly #kept = new Map<string, UsableEcrToken>();
  readonly #underWay = new Map<string, Promise<UsableEcrToken>>();

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
    const kept = this.#kept.get(key);
    if (kept && kept.usableUntilMs > this.#now()) return Promise.resolve(kept);
    const underWay = this.#underWay.get(key) ?? this.#ask(key, request);
    this.#underWay.set(key, underWay);
    return underWay;
  }

  /** After the registry refused it: the next caller gets another one, unless somebody has it already. */
  forget(key: string, refused: UsableEcrToken): void {
    if (this.#kept.get(key) === refused) this.#kept.delete(key);
  }

  async #ask(key: string, request: () => Promise<EcrToken>): Promise<UsableEcrToken> {
    try {
      const token = await request();
      const usable = { ...token, usableUntilMs: this.#usableUntilMs(token) };
      this.#kept.set(key, usable);
      return usable;
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

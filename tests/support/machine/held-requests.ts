export interface HeldRequests<Arrived = unknown> {
  /** Resolves when the first held request has arrived. */
  readonly arrived: Promise<Arrived>;
  /** Lets all held requests continue, and holds no further ones. */
  release(): void;
}

interface Hold<Arriving> {
  readonly matches: (request: Arriving) => boolean;
  readonly arrive: (request: Arriving) => void;
  readonly released: Promise<void>;
}

/** Requests that a test holds at one of its servers, to imitate a server that hangs. */
export class Holds<Arriving> {
  readonly #holds = new Set<Hold<Arriving>>();

  add(matches: (request: Arriving) => boolean = () => true): HeldRequests<Arriving> {
    const arrival = Promise.withResolvers<Arriving>();
    const release = Promise.withResolvers<void>();
    const hold = { matches, arrive: arrival.resolve, released: release.promise };
    this.#holds.add(hold);
    return {
      arrived: arrival.promise,
      release: () => {
        this.#holds.delete(hold);
        release.resolve();
      },
    };
  }

  /** Resolves when no hold matches this request. */
  async pass(request: Arriving): Promise<void> {
    for (const hold of [...this.#holds].filter(({ matches }) => matches(request))) {
      hold.arrive(request);
      await hold.released;
    }
  }
}

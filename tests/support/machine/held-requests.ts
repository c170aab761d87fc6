export interface HeldRequests<Arrived = unknown> {
  /** Resolves when the first of them has arrived, and waits. */
  readonly arrived: Promise<Arrived>;
  /** Lets all that wait go on, and holds no more. */
  release(): void;
}

interface Hold<Arriving> {
  readonly matches: (request: Arriving) => boolean;
  readonly arrive: (request: Arriving) => void;
  readonly released: Promise<void>;
}

/** What a test keeps waiting at one of its servers, as a server does that hangs. */
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

  /** Comes back when nobody holds this request. */
  async pass(request: Arriving): Promise<void> {
    for (const hold of [...this.#holds].filter(({ matches }) => matches(request))) {
      hold.arrive(request);
      await hold.released;
    }
  }
}

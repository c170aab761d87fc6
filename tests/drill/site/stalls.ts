/**
 * Times in which the machine did not run the drill itself. All traffic passes through the drill, so such a stall is a fault
 * of every part at once, which no plan has.
 */
const CHECK_INTERVAL_MS = 100;
/** Shorter ones end no lease. */
const MIN_STALL_MS = 1000;

export interface Stall {
  readonly from: number;
  readonly until: number;
}

export class StallWatch {
  readonly stalls: Stall[] = [];
  #lastAt = Date.now();
  readonly #timer = setInterval(() => this.#check(), CHECK_INTERVAL_MS);

  stop(): void {
    clearInterval(this.#timer);
  }

  #check(): void {
    const now = Date.now();
    if (now - this.#lastAt > MIN_STALL_MS + CHECK_INTERVAL_MS)
      this.stalls.push({ from: this.#lastAt, until: now });
    this.#lastAt = now;
  }
}

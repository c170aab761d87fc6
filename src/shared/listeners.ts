/** The listeners of one kind of event. One that throws stops neither the others nor the code that raised the event. */
export class Listeners<Event = void> {
  readonly #listeners: ((event: Event) => void)[] = [];

  constructor(private readonly onError: (error: unknown, event: Event) => void) {}

  add(listener: (event: Event) => void): void {
    this.#listeners.push(listener);
  }

  notify(event: Event): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.onError(error, event);
      }
    }
  }
}

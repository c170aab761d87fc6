/**
 * Delay and fate of each call of a schedule. A schedule's choices are numbers from 0 to MAX_CHOICE, one for each call
 * between two components, in the order of the calls: the higher, the worse, so that fast-check shrinks a schedule to
 * the few calls that have to be late or lost. After the last choice every call is answered at once.
 */

export const MAX_CHOICE = 99;

export interface Fate {
  readonly requestMs: number;
  readonly responseMs: number;
  /** The call is not executed, or it is but the caller does not learn it. */
  readonly lost?: "request" | "response";
}

const PROMPT: Fate = { requestMs: 0, responseMs: 0 };

export function fateOf(choice: number): Fate {
  if (choice < 50) return PROMPT;
  if (choice < 65) return { requestMs: choice - 49, responseMs: 0 };
  if (choice < 80) return { requestMs: 0, responseMs: choice - 64 };
  if (choice < 86) return { requestMs: (choice - 79) * 500, responseMs: 0 };
  if (choice < 92) return { requestMs: 0, responseMs: (choice - 85) * 500 };
  if (choice < 95) return { requestMs: (choice - 91) * 4000, responseMs: 0 };
  return { ...PROMPT, lost: choice < 97 ? "request" : "response" };
}

export class Choices {
  #used = 0;

  constructor(private readonly choices: readonly number[]) {}

  next(): number {
    return this.choices[this.#used++] ?? 0;
  }

  fate(): Fate {
    return fateOf(this.next());
  }
}

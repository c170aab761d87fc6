/** Calls of components to the stores that all processes share: leases, job records and the broker. */
import type { Choices } from "./delays.ts";
import { Process, type Simulation } from "./simulation.ts";

/** Of the Redis client: a command without an answer fails after that time. */
const MAX_STORE_DELAY_MS = 1400;

export interface CallRules {
  readonly maxDelayMs: number;
  /** Makes the error of a lost call; missing when calls of this store are late at worst. */
  readonly lost?: () => Error;
}

/** The process of a store; stores are never killed or frozen. */
export class Store {
  readonly process: Process;

  constructor(
    readonly simulation: Simulation,
    readonly choices: Choices,
    name: string,
    private readonly report: (problem: string) => void,
  ) {
    this.process = new Process(name);
  }

  /** A call that is executed exactly once, or at most once if it is lost. */
  call<T>(execute: () => Promise<T>, { maxDelayMs, lost }: CallRules): Promise<T> {
    const caller = this.callerProcess();
    if (!this.simulation.mayCall()) {
      this.report(`${caller.name} calls without end`);
      return new Promise(() => {});
    }
    const { requestMs, responseMs, lost: lostPart } = this.choices.fate();
    return new Promise<T>((resolve, reject) => {
      const respond = (settle: () => void) => {
        const isLost = lost !== undefined && lostPart !== undefined;
        const delayMs = lostPart ? maxDelayMs : Math.min(responseMs, maxDelayMs);
        this.simulation.post(delayMs, caller, isLost ? () => reject(lost()) : settle);
      };
      caller.step();
      if (!caller.isAlive) return;
      if (lost && lostPart === "request") return respond(() => undefined);
      this.simulation.post(Math.min(requestMs, maxDelayMs), this.process, () => {
        execute().then(
          (value) => {
            caller.step();
            respond(() => resolve(value));
          },
          (error: unknown) => respond(() => reject(error)),
        );
      });
    });
  }

  callerProcess(): Process {
    const caller = this.simulation.current;
    if (!caller) throw new Error("a store is called outside of any process");
    return caller;
  }
}

/** The store as the processes see it: every asynchronous method is a call. */
export function throughCalls<T extends object>(
  store: Store,
  target: T,
  lost: (() => Error) | undefined,
  overridden: Partial<T>,
): T {
  const rules = { maxDelayMs: MAX_STORE_DELAY_MS, lost };
  return new Proxy(target, {
    get(_, name) {
      if (name in overridden) return Reflect.get(overridden, name);
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => store.call(() => member.apply(target, args) as Promise<unknown>, rules);
    },
  });
}

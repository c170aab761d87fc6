import { setSystemTime } from "bun:test";
import type { Orchestrators } from "../../../../src/worker/control-plane/orchestrator-client.ts";

export const YEAR_MS = 365 * 24 * 3600 * 1000;
export const IDENTITY = { workerId: "worker", incarnation: "this-start" };

/** Changes the wall clock; `setSystemTime()` sets it right again. */
export function shiftClock(byMs: number): void {
  setSystemTime(new Date(Date.now() + byMs));
}

/** Orchestrators that answer every call with `answer`, after `before` has run. */
export function answeringOrchestrators(answer: object, before: () => void = () => undefined): Orchestrators {
  type Callback = (error: null, response: object) => void;
  const method = (_request: unknown, _metadata: unknown, _options: unknown, callback: Callback) => {
    setImmediate(() => {
      before();
      callback(null, answer);
    });
    return { cancel: () => undefined };
  };
  const client = { confirmLease: method, register: method };
  const askUntilAnswered = (question: (of: typeof client) => Promise<unknown>) => question(client);
  return { askUntilAnswered } as unknown as Orchestrators;
}

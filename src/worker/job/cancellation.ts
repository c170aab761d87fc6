/**
 * Why a run is ended from outside: the reason of the run's AbortSignal. Each reason leads to another end (run-end.ts),
 * so an abort with a different reason is a bug in Blacktree.
 */
export abstract class RunAborted extends Error {}

/** The run has used up its time. */
export class RunTimeout extends RunAborted {
  override readonly name = "RunTimeout";

  constructor(readonly timeoutMs: number) {
    super(`the run timed out after ${timeoutMs} ms`);
  }
}

/** The orchestrator asked the worker to cancel this run. */
export class RunCancelled extends RunAborted {
  override readonly name = "RunCancelled";

  constructor(readonly reason: string) {
    super(reason === "" ? "the run was cancelled" : `the run was cancelled: ${reason}`);
  }
}

/** Another attempt has the job: this one must not put its tag, and its end is not reported. */
export class LeaseLost extends RunAborted {
  override readonly name = "LeaseLost";

  constructor(message = "the job was given to another attempt") {
    super(message);
  }
}

/** The worker stops, and the run did not end before the drain timeout. */
export class RunDrained extends RunAborted {
  override readonly name = "RunDrained";

  constructor() {
    super("the worker was stopped before the run had ended");
  }
}

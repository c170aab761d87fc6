/**
 * Why a run is ended from outside: the reason that the run's AbortSignal carries. Each is a different end
 * (run-end.ts), so an abort without one of these is a fault of Blacktree.
 */
export abstract class RunAborted extends Error {}

/** The run has used up its time. */
export class RunTimeout extends RunAborted {
  override readonly name = "RunTimeout";

  constructor(readonly timeoutMs: number) {
    super(`the run was ended after its ${timeoutMs} ms`);
  }
}

/** Somebody asked for the end of this run. */
export class RunCancelled extends RunAborted {
  override readonly name = "RunCancelled";

  constructor(readonly reason: string) {
    super(reason === "" ? "the run was cancelled" : `the run was cancelled: ${reason}`);
  }
}

/** Another attempt has the job: this one must not put its tag, and its end is nobody's news. */
export class LeaseLost extends RunAborted {
  override readonly name = "LeaseLost";

  constructor(message = "the job was given to another attempt") {
    super(message);
  }
}

/** The worker stops, and the run could not end within the time left for it. */
export class RunDrained extends RunAborted {
  override readonly name = "RunDrained";

  constructor() {
    super("the worker was stopped before the run had ended");
  }
}

/**
 * Controls: operators take workers and worker regions out of service. A paused or drained worker, and every worker of a
 * drained region, keeps its runs and gets no other job until the operator resumes it, also after a restart.
 */
export type ControlKind = "paused" | "drained";

export interface Control {
  /** A drained worker is about to be stopped, a paused one is not. */
  readonly kind: ControlKind;
  /** As the operator wrote it; empty without one. */
  readonly reason: string;
  readonly since: Date;
}

/** Of a worker, or of its region; its own one comes first. */
export interface EffectiveControl extends Control {
  readonly scope: "worker" | "region";
}

export type ControlTarget =
  | { readonly kind: "worker"; readonly name: string }
  | { readonly kind: "region"; readonly name: string };

/** Undefined: resumes the target. Repeated without a reason, it keeps the one that is known. */
export type ControlOrder = Omit<Control, "since"> | undefined;

export type ControlOutcome =
  /** No worker with this id is known, nor is one controlled. One that is stopped is forgotten, a lost one in an hour. */
  | { readonly kind: "unknown" }
  | {
      readonly kind: "done";
      /** Undefined: the target is resumed. */
      readonly control: Control | undefined;
      readonly lasts: ControlDuration;
    };

export type ControlDuration =
  | "until-resumed"
  /** The worker has another id after its restart. */
  | "until-worker-restarts"
  /** It is kept in the memory of this process. */
  | "until-exit";

/** Such as `paused by an operator: new disk`. */
export function describeControl({ kind, reason }: Pick<Control, "kind" | "reason">): string {
  return withReason(`${kind} by an operator`, reason);
}

/** Such as `paused by an operator since 2026-01-31T12:00:00.000Z: new disk`. */
export function describeControlSince({ kind, reason, since }: Control): string {
  return withReason(`${kind} by an operator since ${since.toISOString()}`, reason);
}

function withReason(what: string, reason: string): string {
  return reason === "" ? what : `${what}: ${reason}`;
}

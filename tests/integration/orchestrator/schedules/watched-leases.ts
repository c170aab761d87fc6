/** The leases of a schedule: shared by its orchestrators, and watched by the invariants. */
import type { Leases } from "../../../../src/orchestrator/leases/leases.ts";
import type { Invariants } from "./invariants.ts";

export function watchedLeases(leases: Leases, invariants: Invariants): Leases {
  const watched: Partial<Leases> = {
    async claim(request) {
      const outcome = await leases.claim(request);
      if (outcome.kind === "claimed") invariants.claimed(outcome.claim);
      if (outcome.kind === "held") invariants.attached(outcome.claim);
      return outcome;
    },
    async observe(workerId, incarnation, observation) {
      const stale = await leases.observe(workerId, incarnation, observation);
      if (stale) for (const run of observation.runs) if (!stale.includes(run)) invariants.kept(run);
      return stale;
    },
    async fence(claim, options) {
      const fence = await leases.fence(claim, options);
      if (fence.kind === "fenced") invariants.fenced(claim, fence.confirmedForMs);
      return fence;
    },
    async confirm(run, workerId, incarnation) {
      const confirmedForMs = await leases.confirm(run, workerId, incarnation);
      if (confirmedForMs !== undefined) invariants.confirmed(run, confirmedForMs);
      return confirmedForMs;
    },
    async cancel(jobId, reason) {
      const atCancel = await leases.cancel(jobId, reason);
      invariants.cancelled(jobId);
      return atCancel;
    },
    async release(claim) {
      await leases.release(claim);
      invariants.released(claim);
    },
    async retract(claim) {
      const answered = invariants.retracting(claim);
      await leases.retract(claim);
      answered(true);
    },
    async retractUnsent(claim) {
      const answered = invariants.retracting(claim);
      const isRetracted = await leases.retractUnsent(claim);
      answered(isRetracted);
      return isRetracted;
    },
  };
  return new Proxy(leases, {
    get(_, name) {
      const member: unknown = Reflect.get(name in watched ? watched : leases, name, leases);
      return typeof member === "function" && !(name in watched) ? member.bind(leases) : member;
    },
  });
}

/** Why a job was assigned to its worker: the sentence that its event ASSIGNED and the log contain. */
import type { Claim, ClaimRequest, WorkerChoice } from "../leases/leases.ts";

export interface Placed {
  /** Undefined for a claim of an earlier holder of the job's message. */
  readonly region: string | undefined;
  readonly reason: string;
}

type Request = Pick<ClaimRequest, "regions" | "avoidWorkerId">;

export function placedByChoice({ workerId }: Claim, choice: WorkerChoice, request: Request): Placed {
  const { region, hasBuiltSource, missesPlatforms } = choice;
  const clauses = [
    whereClause(region, request),
    avoidedClause(workerId, request),
    hasBuiltSource ? "has built this repository before" : undefined,
    missesPlatforms ? "no worker runs programs of the job's platforms" : undefined,
  ];
  return { region, reason: clauses.filter((clause) => clause !== undefined).join(", ") };
}

/** The claim was made for this job before, and its worker has or gets the run. */
export const PLACED_BEFORE: Placed = {
  region: undefined,
  reason:
    "assigned to it before; another orchestrator, or an earlier delivery of the job's message, did that",
};

function whereClause(region: string, { regions, avoidWorkerId }: Request): string {
  const before = regions.slice(0, regions.indexOf(region));
  if (before.length === 0) return `free in ${region}`;
  const missing = avoidWorkerId === undefined ? "no free worker" : "no other free worker";
  return `${missing} in ${before.join(", ")}: fallback ${region}`;
}

function avoidedClause(workerId: string, { avoidWorkerId }: Request): string | undefined {
  if (avoidWorkerId === undefined) return undefined;
  return workerId === avoidWorkerId
    ? "the worker of the last attempt, since no other one is free"
    : `another worker than ${avoidWorkerId} of the last attempt`;
}

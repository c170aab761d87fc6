/** The target of `drain`, `pause` and `resume`, and the API's answer. */
import type { ApiClient } from "./api/client.ts";
import { ORDERED } from "./api/shapes.ts";
import { WrongUsage } from "./wrong-usage.ts";

export interface ShownControl {
  readonly kind: "paused" | "drained";
  readonly reason: string;
  readonly since: string;
  readonly scope: "worker" | "region";
}

/** Of a worker or a region. */
export interface OrderAnswer {
  readonly control: ShownControl | null;
  /** Ids of the jobs that still run there. */
  readonly jobs: readonly string[];
  readonly warning: string | null;
  /** Null for a worker that is not registered. */
  readonly region: string | null;
}

export interface OrderTarget {
  readonly kind: "worker" | "region";
  readonly name: string;
}

/** @throws WrongUsage unless exactly one of both is given. */
export function orderTarget(id: string | undefined, region: string | undefined): OrderTarget {
  if (id && region === undefined) return { kind: "worker", name: id };
  if (id === undefined && region) return { kind: "region", name: region };
  throw new WrongUsage(
    "expected either a worker's id or --region; blacktree workers and blacktree regions list them",
  );
}

export function pathOf({ kind, name }: OrderTarget): string {
  return `/api/v1/${kind}s/${encodeURIComponent(name)}`;
}

/** @throws ApiError */
export function giveOrder(
  api: ApiClient,
  target: OrderTarget,
  action: "drain" | "pause" | "resume",
  reason?: string,
): Promise<OrderAnswer> {
  return api.post<OrderAnswer>(`${pathOf(target)}/${action}`, JSON.stringify({ reason }), ORDERED);
}

/** Such as `w1 is drained: it gets no jobs until it is resumed; 2 jobs still run there`. */
export function describeOrder({ kind, name }: OrderTarget, answer: OrderAnswer): string {
  const { control, jobs, region, warning } = answer;
  const lines = [
    control?.scope === kind
      ? `${name} is ${control.kind}: it gets no jobs until it is resumed; ${describeJobs(jobs.length)} there`
      : `${name} is resumed`,
  ];
  if (region === null) lines.push("note: it is not registered now");
  if (kind === "worker" && control?.scope === "region")
    lines.push(`note: it gets no jobs until its region is resumed, too: blacktree resume --region ${region}`);
  if (warning !== null) lines.push(`warning: ${warning}`);
  return lines.join("\n");
}

function describeJobs(jobs: number): string {
  if (jobs === 0) return "no job runs";
  return jobs === 1 ? "1 job still runs" : `${jobs} jobs still run`;
}

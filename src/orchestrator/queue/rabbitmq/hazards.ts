/** Which declarations and policies of queues make RabbitMQ lose jobs or results without an error. */
import { MAX_DELIVERIES, MAX_DELIVERIES_OWN_QUEUE } from "./delivery.ts";
import { type Policy, patternOf, policiesOf } from "./policies.ts";
import type { QueueDeclaration } from "./queue-arguments.ts";
import type { OwnQueue } from "./topology.ts";

export interface Hazard {
  /** `warning`: results, which another program may want to limit, or a limit whose effect is visible. */
  readonly severity: "problem" | "warning";
  readonly cause: string;
  readonly effect: string;
  readonly remedy: string;
}

export interface CheckedQueue extends OwnQueue {
  /** Undefined if it cannot be read. */
  readonly declaration: QueueDeclaration | undefined;
}

const REDECLARE = "delete the queue, and Blacktree declares a durable quorum queue";
const EXCLUDE = "exclude Blacktree's queues from the policy";
/** Between the delivery that publishes a message again and the limit; a crash counts as a delivery too. */
const SPARE_DELIVERIES = 2;

export function isStream(declaration: QueueDeclaration | undefined): boolean {
  return declaration?.arguments["x-queue-type"] === "stream";
}

export function hazardsOf(queue: CheckedQueue, policies: readonly Policy[]): readonly Hazard[] {
  const { name, declaration } = queue;
  const type = String((declaration ?? queue).arguments["x-queue-type"] ?? "classic");
  const applied = policiesOf(policies, { name, type });
  if (declaration && isStream(declaration)) return [streamHazard(queue)];
  const drops = overflowOf(queue, type, applied) !== "reject-publish";
  return [
    ...(declaration ? lifetimeHazards(queue, declaration) : []),
    ...Object.entries(declaration?.arguments ?? {}).flatMap(([name, value]) => {
      const limit = limitHazard(queue, name.replace(/^x-/, ""), value, drops);
      return limit ? [{ ...limit, cause: `declared with ${name} ${value}`, remedy: REDECLARE }] : [];
    }),
    ...applied.flatMap(({ title, definition }) =>
      Object.entries(definition).flatMap(([name, value]) => {
        const limit = limitHazard(queue, name, value, drops);
        return limit ? [{ ...limit, cause: `${title} sets ${name} to ${value}`, remedy: EXCLUDE }] : [];
      }),
    ),
  ];
}

/** Policies that may match any queue. */
export function unreadablePolicies(policies: readonly Policy[]): readonly Hazard[] {
  return policies
    .filter((policy) => policy.appliesTo !== "exchanges" && !patternOf(policy))
    .map(({ title, pattern }) => ({
      severity: "warning",
      cause: `${title} has the pattern ${pattern}`,
      effect: "it may match them, but cannot be evaluated here",
      remedy: EXCLUDE,
    }));
}

function severityOf({ role }: CheckedQueue): Hazard["severity"] {
  return role === "results" ? "warning" : "problem";
}

function streamHazard(queue: CheckedQueue): Hazard {
  const effect =
    queue.role === "results"
      ? "RabbitMQ deletes results after a time, whether they were received or not"
      : "nothing is consumed from it, since a stream does not deliver what arrived before its consumer";
  return { severity: severityOf(queue), cause: "declared as a stream", effect, remedy: REDECLARE };
}

function lifetimeHazards(queue: CheckedQueue, { durable, autoDelete }: QueueDeclaration): readonly Hazard[] {
  const severity = severityOf(queue);
  const hazard = (cause: string, when: string) => ({
    severity,
    cause,
    effect: `RabbitMQ deletes it with its messages ${when}`,
    remedy: REDECLARE,
  });
  return [
    ...(durable ? [] : [hazard("declared as not durable", "when it restarts")]),
    ...(autoDelete ? [hazard("declared with auto-delete", "when its last consumer ends")] : []),
  ];
}

/** Quorum queues prefer the policy, classic queues the argument (RabbitMQ 3.10 and 4.0). */
function overflowOf({ declaration }: CheckedQueue, type: string, applied: readonly Policy[]): unknown {
  const ofPolicy = applied.map(({ definition }) => definition.overflow).find((value) => value !== undefined);
  const ofArgument = declaration?.arguments["x-overflow"];
  return type === "quorum" ? (ofPolicy ?? ofArgument) : (ofArgument ?? ofPolicy);
}

/**
 * The queues of the retries have a TTL, after which messages go to their ready queue. Another one only makes that
 * earlier, and so does a maximum length; a routing key changes where they go.
 */
function limitHazard(
  queue: CheckedQueue,
  name: string,
  value: unknown,
  drops: boolean,
): Pick<Hazard, "severity" | "effect"> | undefined {
  const isRetries = queue.role === "retries";
  const severity = severityOf(queue);
  switch (name) {
    case "message-ttl":
      return isRetries
        ? undefined
        : { severity, effect: `RabbitMQ drops messages that wait for ${value} ms` };
    case "expires":
      return { severity, effect: `RabbitMQ deletes it with its messages after ${value} ms without use` };
    case "max-length":
    case "max-length-bytes":
      if (isRetries) return undefined;
      return drops
        ? { severity, effect: "RabbitMQ drops the oldest messages above the limit" }
        : { severity: "warning", effect: "RabbitMQ refuses messages above the limit" };
    case "delivery-limit":
      return isTooLow(queue, Number(value))
        ? { severity, effect: `RabbitMQ may drop messages after ${value} deliveries` }
        : undefined;
    case "dead-letter-routing-key":
      return isRetries
        ? {
            severity,
            effect: `jobs that wait for another attempt go to the queue ${value} instead of theirs`,
          }
        : undefined;
    default:
      return undefined;
  }
}

/** A message is published again before its last delivery; see `nearsDeliveryLimit`. A negative limit is none. */
function isTooLow(queue: CheckedQueue, limit: number): boolean {
  if (queue.role !== "submissions" && queue.role !== "jobs") return false;
  const argument = "x-delivery-limit";
  const isOwn = queue.role === "jobs" && queue.declaration?.arguments[argument] === queue.arguments[argument];
  const maxDeliveries = isOwn ? MAX_DELIVERIES_OWN_QUEUE : MAX_DELIVERIES;
  return limit >= 0 && limit < maxDeliveries + SPARE_DELIVERIES;
}

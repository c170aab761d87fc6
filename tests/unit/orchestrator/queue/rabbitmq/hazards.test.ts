import { describe, expect, test } from "bun:test";
import {
  type CheckedQueue,
  type Hazard,
  hazardsOf,
  unreadablePolicies,
} from "../../../../../src/orchestrator/queue/rabbitmq/hazards.ts";
import type { Policy } from "../../../../../src/orchestrator/queue/rabbitmq/policies.ts";
import {
  fixedQueues,
  type QueueArguments,
  type QueueRole,
  readyQueuesOf,
} from "../../../../../src/orchestrator/queue/rabbitmq/topology.ts";

const names = {
  jobQueue: "jobs.build",
  resultQueue: "jobs.results",
  readyPrefix: "jobs.ready",
  eventExchange: "jobs.events",
};
const own = [...fixedQueues(names), ...readyQueuesOf(names, "eu-west-1")];

/** One of Blacktree's queues; `declared`: as another program has declared it. */
function queueOf(role: QueueRole, declared?: QueueArguments): CheckedQueue {
  const queue = own.find((each) => each.role === role) as (typeof own)[number];
  const declaration = { durable: true, autoDelete: false, arguments: declared ?? queue.arguments };
  return { ...queue, declaration };
}

function policy(definition: object, changes: Partial<Policy> = {}): Policy {
  const matching = { kind: "policies", pattern: "", appliesTo: "queues", priority: 0 } as const;
  return { title: 'policy "p"', ...matching, definition: { ...definition }, ...changes };
}

const found = (hazards: readonly Hazard[]) => hazards.map(({ severity, cause }) => `${severity}: ${cause}`);
const ofPolicy = (queue: CheckedQueue, definition: object, changes?: Partial<Policy>) =>
  found(hazardsOf(queue, [policy(definition, changes)]));

test("Blacktree's own declarations have none", () => {
  for (const queue of own) {
    const declaration = { durable: true, autoDelete: false, arguments: queue.arguments };
    expect(hazardsOf({ ...queue, declaration }, [])).toEqual([]);
    expect(hazardsOf({ ...queue, declaration: undefined }, [])).toEqual([]);
  }
});

describe("policies", () => {
  const drops = { "message-ttl": 1, expires: 2, "max-length": 3, "max-length-bytes": 4, "delivery-limit": 5 };

  test("that drop jobs are problems", () => {
    for (const role of ["submissions", "jobs"] as const)
      expect(ofPolicy(queueOf(role), drops)).toEqual([
        'problem: policy "p" sets message-ttl to 1',
        'problem: policy "p" sets expires to 2',
        'problem: policy "p" sets max-length to 3',
        'problem: policy "p" sets max-length-bytes to 4',
        'problem: policy "p" sets delivery-limit to 5',
      ]);
  });

  test("that drop results are warnings", () => {
    expect(ofPolicy(queueOf("results"), { ...drops, "dead-letter-routing-key": "x" })).toEqual([
      'warning: policy "p" sets message-ttl to 1',
      'warning: policy "p" sets expires to 2',
      'warning: policy "p" sets max-length to 3',
      'warning: policy "p" sets max-length-bytes to 4',
    ]);
  });

  test("that change where retries go are problems, and a shorter delay is none", () => {
    const definition = { ...drops, "dead-letter-routing-key": "x", "dead-letter-exchange": "y" };
    expect(ofPolicy(queueOf("retries"), definition)).toEqual([
      'problem: policy "p" sets expires to 2',
      'problem: policy "p" sets dead-letter-routing-key to x',
    ]);
  });

  test("that drop nothing are none", () => {
    const harmless = {
      "queue-leader-locator": "balanced",
      "dead-letter-exchange": "x",
      "delivery-limit": 20,
    };
    for (const role of ["submissions", "jobs", "retries", "results"] as const)
      expect(ofPolicy(queueOf(role), harmless)).toEqual([]);
    expect(ofPolicy(queueOf("jobs"), { "delivery-limit": -1 })).toEqual([]);
  });

  test("with a delivery limit depend on the deliveries after which a message is published again", () => {
    expect(ofPolicy(queueOf("jobs"), { "delivery-limit": 19 })).toHaveLength(1);
    const foreign = queueOf("jobs", { "x-queue-type": "quorum" });
    for (const queue of [queueOf("submissions"), foreign]) {
      expect(ofPolicy(queue, { "delivery-limit": 10 })).toEqual([]);
      expect(ofPolicy(queue, { "delivery-limit": 9 })).toHaveLength(1);
    }
  });

  test("with a maximum length are warnings if RabbitMQ refuses what is above it", () => {
    const rejecting = { "max-length": 3, overflow: "reject-publish" };
    expect(ofPolicy(queueOf("jobs"), rejecting)).toEqual(['warning: policy "p" sets max-length to 3']);
    const quorum = queueOf("jobs", { "x-queue-type": "quorum", "x-overflow": "drop-head" });
    const classic = queueOf("jobs", { "x-overflow": "drop-head" });
    expect(ofPolicy(quorum, rejecting)[0]).toStartWith("warning");
    expect(ofPolicy(classic, rejecting)[0]).toStartWith("problem");
  });

  test("apply if they match the name and the type, one of each kind, with the highest priority", () => {
    const queue = queueOf("submissions");
    const isApplied = (changes: Partial<Policy>) => ofPolicy(queue, { expires: 1 }, changes).length === 1;
    for (const appliesTo of ["all", "queues", "quorum_queues"]) expect(isApplied({ appliesTo })).toBe(true);
    for (const appliesTo of ["classic_queues", "streams", "exchanges"])
      expect(isApplied({ appliesTo })).toBe(false);
    for (const pattern of ["build$", "jobs[.]", ".*"]) expect(isApplied({ pattern })).toBe(true);
    for (const pattern of ["^build", "Jobs"]) expect(isApplied({ pattern })).toBe(false);
    const policies = [
      policy({ expires: 1 }, { priority: 1 }),
      policy({ expires: 2 }, { priority: 10 }),
      policy({ expires: 3 }, { priority: 5 }),
      policy({ expires: 4 }, { kind: "operator-policies", title: 'operator policy "o"' }),
    ];
    expect(found(hazardsOf(queue, policies))).toEqual([
      'problem: policy "p" sets expires to 2',
      'problem: operator policy "o" sets expires to 4',
    ]);
  });

  test("whose pattern cannot be evaluated are named", () => {
    const unreadable = policy({ expires: 1 }, { pattern: "(?<=x" });
    expect(hazardsOf(queueOf("jobs"), [unreadable])).toEqual([]);
    expect(found(unreadablePolicies([unreadable, policy({})]))).toEqual([
      'warning: policy "p" has the pattern (?<=x',
    ]);
    expect(unreadablePolicies([{ ...unreadable, appliesTo: "exchanges" }])).toEqual([]);
  });
});

describe("declarations", () => {
  test("of a stream are a problem, but only a warning for results", () => {
    const stream = { "x-queue-type": "stream", "x-max-length-bytes": 1 };
    expect(found(hazardsOf(queueOf("submissions", stream), []))).toEqual(["problem: declared as a stream"]);
    expect(found(hazardsOf(queueOf("results", stream), []))).toEqual(["warning: declared as a stream"]);
  });

  test("of a queue that RabbitMQ deletes are problems", () => {
    const declaration = { durable: false, autoDelete: true, arguments: {} };
    expect(found(hazardsOf({ ...queueOf("submissions"), declaration }, []))).toEqual([
      "problem: declared as not durable",
      "problem: declared with auto-delete",
    ]);
  });
});

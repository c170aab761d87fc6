/** A cluster of three nodes. What happens to jobs when nodes fail: tests/e2e/faults/broker-cluster.test.ts. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { ReadyMessage, ReadyQueue } from "../../../../../src/orchestrator/queue/queue.ts";
import type { RabbitMqQueue } from "../../../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { inFullCheck } from "../../../../support/machine/full-check.ts";
import { waitFor } from "../../../../support/machine/wait-for.ts";
import { missingDebian13 } from "../../../../support/servers/debian-13.ts";
import { type RabbitMqCluster, startRabbitMqCluster } from "../../../../support/servers/rabbitmq.ts";
import { describeQueueContract } from "../queue-contract.ts";
import { type RabbitMqBroker, rabbitMqBroker } from "./broker.ts";

const TIMEOUT_MS = 120_000;
/** Less than the minute for which RabbitMQ waits for a node that does not answer. */
const ELECTION_TIMEOUT_MS = 40_000;
const readyQueue: ReadyQueue = { region: "eu-central-1", priority: "normal" };

const reason = await missingDebian13();
const name = reason === undefined ? "RabbitMQ 4.0 cluster" : `RabbitMQ 4.0 cluster (skipped: ${reason})`;

inFullCheck().describe(name, () => {
  describe.skipIf(reason !== undefined)("of three nodes", describeCluster);
});

function describeCluster(): void {
  const opened: RabbitMqQueue[] = [];
  let cluster: RabbitMqCluster;

  beforeAll(async () => {
    cluster = await startRabbitMqCluster({ version: "4.0" });
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()));
  });
  afterAll(() => cluster.stop());

  async function started(queue: RabbitMqQueue): Promise<RabbitMqQueue> {
    opened.push(queue);
    queue.start();
    await waitFor(() => queue.isReady, { timeoutMs: TIMEOUT_MS, what: "the queue to be ready" });
    return queue;
  }

  /** Of the broker's queues that every orchestrator uses. */
  async function members({ readyPrefix }: RabbitMqBroker): Promise<readonly Replicated[]> {
    const columns = ["name", "type", "leader", "members"];
    const list = ["list_queues", "--vhost", cluster.nodes[0].vhost, "--formatter", "json", ...columns];
    const { stdout } = await cluster.nodes[0].rabbitmqctl(list);
    const queues = JSON.parse(stdout) as readonly Replicated[];
    return queues.filter((queue) => queue.name.startsWith(readyPrefix) && queue.type === "quorum");
  }

  test("the queues have a replica on each node", async () => {
    const broker = rabbitMqBroker(cluster.nodes[0].url);
    const queue = await started(broker.open());
    await queue.offer(readyQueue, message("job-1"));
    const replicated = await members(broker);
    expect(replicated.map((each) => each.name)).toContain(`${broker.readyPrefix}.eu-central-1.normal`);
    expect(replicated.filter((each) => each.members.length !== cluster.nodes.length)).toEqual([]);
  });

  test("jobs are taken while the node that leads their queue is frozen", async () => {
    const [leader, other] = cluster.nodes;
    const broker = rabbitMqBroker(leader.url);
    // The first one's node leads the queue, since it declares it.
    const first = await started(broker.open());
    const queue = await started(broker.open(other.url));
    await first.offer(readyQueue, message("job-1"));
    // RabbitMQ tells the next leader to a publisher that the queue knows. Another one waits until the node counts as down.
    await queue.offer(readyQueue, message("job-2"));
    const take = () => waitFor(() => queue.take(readyQueue), { timeoutMs: TIMEOUT_MS, what: "a job" });
    for (const delivery of [await take(), await take()]) delivery.ack();
    const name = `${broker.readyPrefix}.${readyQueue.region}.${readyQueue.priority}`;
    expect((await members(broker)).find((each) => each.name === name)?.leader).toBe(nodeOf(leader));

    leader.pause();
    try {
      const jobIds: string[] = [];
      const offers = ["job-3", "job-4"].map((jobId) => queue.offer(readyQueue, message(jobId)));
      const takeNext = async () => {
        const delivery = await queue.take(readyQueue);
        delivery?.ack();
        if (delivery) jobIds.push(delivery.envelope.jobId);
        return jobIds.length === offers.length;
      };
      await waitFor(takeNext, { timeoutMs: ELECTION_TIMEOUT_MS, what: "both jobs" });
      await Promise.all(offers);
      expect(jobIds).toEqual(["job-3", "job-4"]);
    } finally {
      leader.resume();
    }
  });

  describeQueueContract("a node that leads no queue", async () => {
    const [leader, other] = cluster.nodes;
    const broker = rabbitMqBroker(leader.url);
    const declaring = await started(broker.open());
    await declaring.close();
    return { ...broker, open: () => broker.open(other.url) };
  });
}

interface Replicated {
  readonly name: string;
  readonly type: string;
  readonly leader: string;
  readonly members: readonly string[];
}

function nodeOf({ access }: RabbitMqCluster["nodes"][number]): string {
  return `${access.env.RABBITMQ_NODENAME}`;
}

function message(jobId: string): ReadyMessage {
  return {
    body: Buffer.from(jobId),
    properties: {},
    envelope: { jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" },
  };
}

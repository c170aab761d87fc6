import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import {
  type Delivery,
  type JobQueue,
  QueueClosed,
  RETRY_DELAYS_MS,
  type ReadyDelivery,
  type ReadyMessage,
  type ReadyQueue,
} from "../../../../src/orchestrator/queue/queue.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { sampleResult } from "../sample-result.ts";
import { letterOf } from "./letter-of.ts";

export interface DeadLetter {
  readonly body: Buffer;
  readonly reason: string;
  readonly at: Date;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
}

export interface PublishedResult {
  readonly body: unknown;
  readonly jobId: string;
  readonly correlationId: string | undefined;
}

/** The backend of one test's queues, and the test's access to what they publish. */
export interface Broker {
  /** The queue of a new orchestrator, not started yet. One at a time. */
  open(): JobQueue;
  deadLetters(): Promise<readonly DeadLetter[]>;
  results(): Promise<readonly PublishedResult[]>;
  remove(): Promise<void>;
}

const TIMEOUT_MS = 120_000;
const readyQueue: ReadyQueue = { region: "eu-central-1", priority: "normal" };

function readyMessage(jobId: string, body = Buffer.from(jobId)): ReadyMessage {
  return { body, properties: {}, envelope: { jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" } };
}

/**
 * The contract of `src/orchestrator/queue/queue.ts`, which both implementations pass. With `isOtherVersion`, the default
 * check has only the parts in which versions of one broker differ: the order, the delays and the limits of queues.
 */
export function describeQueueContract(
  name: string,
  makeBroker: () => Promise<Broker>,
  { isOtherVersion = false } = {},
): void {
  const sameInAllVersions = inFullCheck(isOtherVersion);
  describe(`${name}: job queue`, () => {
    let broker: Broker;
    let queue: JobQueue;

    beforeEach(async () => {
      broker = await makeBroker();
      queue = await startedQueue();
    });

    afterEach(async () => {
      await queue.close();
      await broker.remove();
    });

    async function startedQueue(): Promise<JobQueue> {
      const opened = broker.open();
      opened.start();
      await waitFor(() => opened.isReady, { timeoutMs: TIMEOUT_MS, what: "the queue to be ready" });
      return opened;
    }

    /** Simulates a restart of the orchestrator. */
    async function reopen(): Promise<void> {
      await queue.close();
      queue = await startedQueue();
    }

    /** Collects every delivery and leaves it unsettled. */
    function collectSubmitted(): Delivery[] {
      const deliveries: Delivery[] = [];
      queue.onSubmitted(async (delivery) => void deliveries.push(delivery));
      return deliveries;
    }

    function countOf(deliveries: readonly unknown[], count: number): Promise<unknown> {
      return waitFor(() => deliveries.length >= count, {
        timeoutMs: TIMEOUT_MS,
        what: `${count} deliveries`,
      });
    }

    async function takeOne(from: ReadyQueue = readyQueue): Promise<ReadyDelivery> {
      return await waitFor(() => queue.take(from), { timeoutMs: TIMEOUT_MS, what: "a waiting job" });
    }

    async function isEmpty(from: ReadyQueue = readyQueue): Promise<boolean> {
      const delivery = await queue.take(from);
      await delivery?.requeue();
      return delivery === undefined;
    }

    sameInAllVersions.describe("submissions", () => {
      test("arrive byte for byte with their properties", async () => {
        const body = randomBytes(100_000);
        const deliveries = collectSubmitted();
        await queue.submit(body, { messageId: "m-1", correlationId: "c-1", replyTo: "answers" });
        await countOf(deliveries, 1);
        expect(deliveries[0]?.body.equals(body)).toBe(true);
        expect(deliveries[0]?.properties).toEqual({
          messageId: "m-1",
          correlationId: "c-1",
          replyTo: "answers",
        });
        expect(deliveries[0]?.redelivered).toBe(false);
        expect(deliveries[0]?.revoked.aborted).toBe(false);
      });

      test("wait for a handler that is set later", async () => {
        await queue.submit(Buffer.from("early"), {});
        const deliveries = collectSubmitted();
        await countOf(deliveries, 1);
        expect(deliveries[0]?.body.toString()).toBe("early");
      });

      test("reach a handler that was set before the start", async () => {
        await queue.submit(Buffer.from("waiting"), {});
        await queue.close();
        queue = broker.open();
        const deliveries = collectSubmitted();
        queue.start();
        await countOf(deliveries, 1);
      });

      test("are handled several at once, and each exactly once", async () => {
        const bodies = Array.from({ length: 200 }, (_, index) => `job-${index}`);
        const seen: string[] = [];
        const several = Promise.withResolvers<void>();
        let inHand = 0;
        queue.onSubmitted(async (delivery) => {
          // The first handler ends only once a second one runs.
          if (++inHand > 1) several.resolve();
          await several.promise;
          inHand--;
          seen.push(delivery.body.toString());
          delivery.ack();
        });
        await Promise.all(bodies.map((body) => queue.submit(Buffer.from(body), {})));
        await countOf(seen, bodies.length);
        expect(seen.toSorted()).toEqual(bodies.toSorted());
      });

      test("acked right before the queue closes stay acked", async () => {
        const deliveries = collectSubmitted();
        await Promise.all(Array.from({ length: 50 }, () => queue.submit(Buffer.from("done"), {})));
        await countOf(deliveries, 50);
        for (const delivery of deliveries) delivery.ack();
        await reopen();
        const again = collectSubmitted();
        await queue.submit(Buffer.from("next"), {});
        await countOf(again, 1);
        expect(again.map(({ body }) => body.toString())).toEqual(["next"]);
      });

      test("not acked are revoked when the queue closes, and delivered again", async () => {
        const deliveries = collectSubmitted();
        await queue.submit(Buffer.from("unacked"), { messageId: "m-2" });
        await countOf(deliveries, 1);
        await reopen();
        expect(deliveries[0]?.revoked.aborted).toBe(true);
        const again = collectSubmitted();
        await countOf(again, 1);
        expect(again[0]?.redelivered).toBe(true);
        expect(again[0]?.properties.messageId).toBe("m-2");
        expect(again[0]?.body.toString()).toBe("unacked");
        // The old owner's late ack and requeue change nothing.
        deliveries[0]?.ack();
        deliveries[0]?.requeue();
        await reopen();
        await countOf(collectSubmitted(), 1);
      });

      test("are delivered again when they are requeued", async () => {
        const deliveries = collectSubmitted();
        await queue.submit(Buffer.from("again"), {});
        await countOf(deliveries, 1);
        deliveries[0]?.requeue();
        await countOf(deliveries, 2);
        expect(deliveries[1]?.redelivered).toBe(true);
        expect(deliveries[1]?.body.toString()).toBe("again");
      });

      test("are delivered again when their handler throws, after a pause", async () => {
        let calls = 0;
        queue.onSubmitted(async (delivery) => {
          if (++calls < 3) throw new Error("not now");
          delivery.ack();
        });
        const startedAt = performance.now();
        await queue.submit(Buffer.from("stubborn"), {});
        await waitFor(() => calls === 3, { timeoutMs: TIMEOUT_MS, what: "the third call" });
        expect(performance.now() - startedAt).toBeGreaterThan(500);
      });

      test("stop on request, and unsettled deliveries stay valid", async () => {
        const deliveries: Delivery[] = [];
        const subscription = queue.onSubmitted(async (delivery) => void deliveries.push(delivery));
        await queue.submit(Buffer.from("first"), {});
        await countOf(deliveries, 1);
        await subscription.stop();
        await queue.submit(Buffer.from("second"), {});
        expect(deliveries[0]?.revoked.aborted).toBe(false);
        deliveries[0]?.ack();
        await reopen();
        const later = collectSubmitted();
        await countOf(later, 1);
        expect(deliveries).toHaveLength(1);
        expect(later.map(({ body }) => body.toString())).toEqual(["second"]);
      });

      describe("that are paused", () => {
        /** Collects bodies, acks those that `isDone` selects, and leaves the others unsettled. */
        function subscribe(isDone: (body: string) => boolean) {
          const deliveries: Delivery[] = [];
          const subscription = queue.onSubmitted(async (delivery) => {
            deliveries.push(delivery);
            if (isDone(delivery.body.toString())) delivery.ack();
          });
          const bodies = () => deliveries.map(({ body }) => body.toString());
          return { deliveries, bodies, subscription };
        }

        async function submitAll(...bodies: readonly string[]): Promise<void> {
          for (const body of bodies) await queue.submit(Buffer.from(body), {});
        }

        test("return every unsettled one, in the order of the queue, and deliver none until they are resumed", async () => {
          const { deliveries, bodies, subscription } = subscribe((body) => body === "b");
          await submitAll("a", "b", "c", "d");
          await countOf(deliveries, 4);
          await subscription.pause();
          const revoked = deliveries.filter(({ revoked }) => revoked.aborted);
          expect(revoked.map(({ body }) => body.toString())).toEqual(["a", "c", "d"]);
          await submitAll("e");
          // Enough exchanges with the broker for a delivery that is under way to arrive.
          for (let count = 0; count < 20; count += 1) {
            await queue.offer(readyQueue, readyMessage(`job-${count}`));
            (await takeOne()).ack();
          }
          expect(bodies()).toEqual(["a", "b", "c", "d"]);
          // A handler that ends only now.
          for (const delivery of revoked) delivery.ack();
          subscription.resume();
          await countOf(deliveries, 8);
          expect(bodies().slice(4)).toEqual(["a", "c", "d", "e"]);
          expect(deliveries.slice(4).map(({ redelivered }) => redelivered)).toEqual([
            true,
            true,
            true,
            false,
          ]);
        });

        test("keep those acked that were acked right before", async () => {
          const { deliveries, bodies, subscription } = subscribe(() => false);
          await submitAll(...Array.from({ length: 50 }, () => "done"));
          await countOf(deliveries, 50);
          for (const delivery of deliveries) delivery.ack();
          await subscription.pause();
          subscription.resume();
          await submitAll("next");
          await countOf(deliveries, 51);
          expect(bodies().slice(50)).toEqual(["next"]);
        });

        test("before the queue is started are delivered when they are resumed", async () => {
          await submitAll("early");
          await queue.close();
          queue = broker.open();
          const { deliveries, subscription } = subscribe(() => true);
          await subscription.pause();
          queue.start();
          await waitFor(() => queue.isReady, { timeoutMs: TIMEOUT_MS, what: "the queue to be ready" });
          await queue.submit(Buffer.from("later"), {});
          expect(deliveries).toHaveLength(0);
          subscription.resume();
          await countOf(deliveries, 2);
        });

        test("can be paused and resumed in quick succession, and each is handled once", async () => {
          const { deliveries, bodies, subscription } = subscribe(() => true);
          const expected = Array.from({ length: 30 }, (_, index) => `job-${index}`);
          for (const body of expected) {
            await submitAll(body);
            void subscription.pause();
            subscription.resume();
          }
          await waitFor(() => expected.every((body) => bodies().includes(body)), {
            timeoutMs: TIMEOUT_MS,
            what: "all deliveries",
          });
          // An ack may be lost with its channel: a second delivery is marked as one.
          const firsts = deliveries.filter(({ redelivered }) => !redelivered);
          expect(new Set(firsts.map(({ body }) => body.toString())).size).toBe(firsts.length);
        });

        test("can be stopped", async () => {
          const { deliveries, subscription } = subscribe(() => false);
          await submitAll("a");
          await countOf(deliveries, 1);
          await subscription.pause();
          await subscription.stop();
          await reopen();
          const again = collectSubmitted();
          await countOf(again, 1);
          expect(deliveries).toHaveLength(1);
        });
      });

      test("may be acked twice", async () => {
        const deliveries = collectSubmitted();
        await queue.submit(Buffer.from("one"), {});
        await countOf(deliveries, 1);
        deliveries[0]?.ack();
        deliveries[0]?.ack();
        deliveries[0]?.requeue();
        await queue.submit(Buffer.from("two"), {});
        await countOf(deliveries, 2);
        expect(deliveries[1]?.redelivered).toBe(false);
        expect(deliveries[1]?.body.toString()).toBe("two");
      });
    });

    sameInAllVersions.describe("dead letters", () => {
      test("contain the message byte for byte, with the reason", async () => {
        const body = Buffer.concat([Buffer.from([0xff, 0xfe, 0x00, 0x0a]), randomBytes(10_000)]);
        const deliveries = collectSubmitted();
        await queue.submit(body, { messageId: "m-3", correlationId: "c-3" });
        await countOf(deliveries, 1);
        const before = Date.now();
        const reason = "branch: missing; `aws_account`: only digits, „bitte“";
        await queue.deadLetter(deliveries[0] as Delivery, letterOf(deliveries[0], reason));
        const letters = await broker.deadLetters();
        expect(letters).toHaveLength(1);
        expect(letters[0]?.body.equals(body)).toBe(true);
        expect(letters[0]?.reason).toBe(reason);
        expect(letters[0]?.messageId).toBe("m-3");
        expect(letters[0]?.correlationId).toBe("c-3");
        expect(letters[0]?.at.getTime()).toBeWithin(before - 1, Date.now() + 1);
      });

      test("are no submissions any more once they are acked", async () => {
        const deliveries = collectSubmitted();
        await queue.submit(Buffer.from("bad"), {});
        await countOf(deliveries, 1);
        await queue.deadLetter(deliveries[0] as Delivery, letterOf(deliveries[0], "not JSON"));
        deliveries[0]?.ack();
        await reopen();
        const later = collectSubmitted();
        await queue.submit(Buffer.from("good"), {});
        await countOf(later, 1);
        expect(later.map(({ body }) => body.toString())).toEqual(["good"]);
      });
    });

    describe("ready queues", () => {
      test("return the offered message", async () => {
        const body = randomBytes(50_000);
        const envelope = {
          jobId: "job-1",
          acceptedAt: new Date("2026-01-02T03:04:05.678Z"),
          defaultRegion: "us-east-1",
        };
        await queue.offer(readyQueue, {
          body,
          properties: { correlationId: "c-4", replyTo: "r-4" },
          envelope,
        });
        const delivery = await takeOne();
        expect(delivery.body.equals(body)).toBe(true);
        expect(delivery.envelope).toEqual(envelope);
        expect(delivery.readyQueue).toEqual(readyQueue);
        expect(delivery.properties.correlationId).toBe("c-4");
        expect(delivery.properties.replyTo).toBe("r-4");
        expect(delivery.redelivered).toBe(false);
      });

      test("are first in, first out", async () => {
        for (let index = 0; index < 5; index++) await queue.offer(readyQueue, readyMessage(`job-${index}`));
        const taken: string[] = [];
        for (let index = 0; index < 5; index++) taken.push((await takeOne()).envelope.jobId);
        expect(taken).toEqual(["job-0", "job-1", "job-2", "job-3", "job-4"]);
      });

      test("are independent of each other", async () => {
        await queue.offer({ region: "eu-central-1", priority: "low" }, readyMessage("low"));
        await queue.offer({ region: "us-east-1", priority: "normal" }, readyMessage("elsewhere"));
        expect(await queue.take(readyQueue)).toBeUndefined();
        expect((await takeOne({ region: "us-east-1", priority: "normal" })).envelope.jobId).toBe("elsewhere");
        expect((await takeOne({ region: "eu-central-1", priority: "low" })).envelope.jobId).toBe("low");
      });

      test("count their messages of all regions and priorities, without the taken ones", async () => {
        expect(await queue.waiting()).toBe(0);
        await queue.offer(readyQueue, readyMessage("first"));
        await queue.offer(readyQueue, readyMessage("second"));
        await queue.offer({ region: "us-east-1", priority: "high" }, readyMessage("elsewhere"));
        await waitFor(async () => (await queue.waiting()) === 3, {
          timeoutMs: TIMEOUT_MS,
          what: "three messages",
        });
        await takeOne();
        await waitFor(async () => (await queue.waiting()) === 2, {
          timeoutMs: TIMEOUT_MS,
          what: "two messages",
        });
      });

      test("that never got a message are empty", async () => {
        expect(await queue.take({ region: "nowhere-1", priority: "high" })).toBeUndefined();
        await queue.offer(readyQueue, readyMessage("still works"));
        await takeOne();
      });

      test("deliver no message twice", async () => {
        const jobIds = Array.from({ length: 100 }, (_, index) => `job-${index}`);
        await Promise.all(jobIds.map((jobId) => queue.offer(readyQueue, readyMessage(jobId))));
        const taken = await Promise.all(jobIds.map(() => queue.take(readyQueue)));
        expect(taken.map((delivery) => delivery?.envelope.jobId).toSorted()).toEqual(jobIds.toSorted());
        expect(await queue.take(readyQueue)).toBeUndefined();
        for (const delivery of taken) delivery?.ack();
      });

      test("contain a requeued message again", async () => {
        await queue.offer(readyQueue, readyMessage("job-1"));
        await (await takeOne()).requeue();
        const again = await takeOne();
        expect(again.redelivered).toBe(true);
        expect(again.envelope.jobId).toBe("job-1");
      });

      test("contain requeued messages in front of those that were never taken, in the order of the requeues", async () => {
        const jobIds = Array.from({ length: 8 }, (_, index) => `job-${index}`);
        for (const jobId of jobIds) await queue.offer(readyQueue, readyMessage(jobId));
        const taken = [await takeOne(), await takeOne(), await takeOne(), await takeOne()];
        const [first, second, third] = taken;
        for (const delivery of [first, second, third]) await delivery?.requeue();
        const again: string[] = [];
        for (let index = 0; index < 7; index++) again.push((await takeOne()).envelope.jobId);
        expect(again).toEqual(jobIds.filter((jobId) => jobId !== taken[3]?.envelope.jobId));
      });

      test("contain messages that were unsettled at the close in front of those that were never taken", async () => {
        for (let index = 0; index < 6; index++) await queue.offer(readyQueue, readyMessage(`job-${index}`));
        await takeOne();
        await takeOne();
        await reopen();
        const again: string[] = [];
        for (let index = 0; index < 6; index++) again.push((await takeOne()).envelope.jobId);
        expect(again.slice(0, 2).toSorted()).toEqual(["job-0", "job-1"]);
        expect(again.slice(2)).toEqual(["job-2", "job-3", "job-4", "job-5"]);
      });

      test("no longer contain an acked message", async () => {
        await queue.offer(readyQueue, readyMessage("job-1"));
        (await takeOne()).ack();
        await reopen();
        expect(await isEmpty()).toBe(true);
      });

      test("deliver messages that were unsettled at the close to the next orchestrator", async () => {
        await queue.offer(readyQueue, readyMessage("job-1"));
        const held = await takeOne();
        await reopen();
        expect(held.revoked.aborted).toBe(true);
        const again = await takeOne();
        expect(again.redelivered).toBe(true);
        held.ack();
        again.ack();
      });

      test("keep a delivery valid for long, while others are taken and acked", async () => {
        await queue.offer(readyQueue, readyMessage("long"));
        const long = await takeOne();
        for (let index = 0; index < 20; index++) {
          await queue.offer(readyQueue, readyMessage(`short-${index}`));
          (await takeOne()).ack();
        }
        expect(long.revoked.aborted).toBe(false);
        long.ack();
        await reopen();
        expect(await isEmpty()).toBe(true);
      });
    });

    describe("a later offer", () => {
      async function taken(jobId: string): Promise<ReadyDelivery> {
        await queue.offer(readyQueue, readyMessage(jobId));
        return await takeOne();
      }

      const [delayMs] = RETRY_DELAYS_MS;
      const retry = { attempts: 2, lastWorkerId: "worker-1" };

      test("returns to its ready queue after its delay, and not before, with the record of its attempts", async () => {
        const delivery = await taken("again");
        const offeredAtMs = performance.now();
        await queue.offerLater(delivery, retry, delayMs);
        delivery.ack();
        const back = await waitFor(() => queue.take(readyQueue), {
          timeoutMs: TIMEOUT_MS,
          what: "the job to return",
        });
        expect(performance.now() - offeredAtMs).toBeGreaterThan(delayMs * 0.9);
        expect(back.envelope).toEqual({ ...delivery.envelope, retry });
        expect(back.body).toEqual(delivery.body);
        expect(back.properties).toEqual(delivery.properties);
      });

      test("survives a restart of the orchestrator", async () => {
        const delivery = await taken("again");
        await queue.offerLater(delivery, retry, delayMs);
        delivery.ack();
        await reopen();
        const back = await waitFor(() => queue.take(readyQueue), {
          timeoutMs: TIMEOUT_MS,
          what: "the job to return",
        });
        expect(back.envelope.retry).toEqual(retry);
      });

      test("of a short delay does not wait behind a long one", async () => {
        const [first, second] = [await taken("long"), await taken("short")];
        await queue.offerLater(first, retry, RETRY_DELAYS_MS[2]);
        await queue.offerLater(second, retry, delayMs);
        first.ack();
        second.ack();
        const back = await waitFor(() => queue.take(readyQueue), {
          timeoutMs: TIMEOUT_MS,
          what: "the job to return",
        });
        expect(back.envelope.jobId).toBe("short");
      });
    });

    sameInAllVersions.describe("waiting messages", () => {
      const others: ReadyQueue = { region: "eu-west-1", priority: "normal" };

      test("are found in their ready queue, parked, and before another attempt", async () => {
        expect(await queue.hasWaiting([readyQueue, others])).toBe(false);
        await queue.offer(readyQueue, readyMessage("job-1"));
        expect(await queue.hasWaiting([others, readyQueue])).toBe(true);
        expect(await queue.hasWaiting([others, { ...readyQueue, priority: "high" }])).toBe(false);

        const delivery = await takeOne();
        await queue.offerLater(delivery, { attempts: 1, lastWorkerId: "worker-1" }, RETRY_DELAYS_MS[2]);
        delivery.ack();
        await waitFor(() => queue.hasWaiting([readyQueue]), {
          timeoutMs: TIMEOUT_MS,
          what: "the message that waits for another attempt",
        });
      });

      test("are found while they are parked, and not once they are acked", async () => {
        await queue.park(readyQueue, readyMessage("job-1"));
        expect(await queue.hasWaiting([readyQueue])).toBe(true);
        await queue.unpark(() => true);
        (await takeOne()).ack();
        await waitFor(async () => !(await queue.hasWaiting([readyQueue])), {
          timeoutMs: TIMEOUT_MS,
          what: "the queues to be empty",
        });
      });
    });

    describe("parked jobs", () => {
      const queueOf = (region: string, priority: ReadyQueue["priority"] = "normal") => ({ region, priority });
      const isMoved = (region: string) => region === readyQueue.region;

      async function parkOne(jobId: string, into: ReadyQueue): Promise<void> {
        await queue.park(into, readyMessage(jobId));
      }

      async function takenFrom(from: ReadyQueue, count: number): Promise<readonly string[]> {
        const jobIds: string[] = [];
        while (jobIds.length < count) jobIds.push((await takeOne(from)).envelope.jobId);
        expect(await queue.take(from)).toBeUndefined();
        return jobIds;
      }

      test("are in no ready queue, and add no region", async () => {
        await parkOne("job-1", readyQueue);
        expect(await queue.take(readyQueue)).toBeUndefined();
        await reopen();
        expect(queue.regions()).toEqual([]);
        expect(await queue.take(readyQueue)).toBeUndefined();
      });

      test("move unchanged, and only those of regions that are known", async () => {
        const body = randomBytes(50_000);
        const properties = { messageId: "m-6", correlationId: "c-6", replyTo: "r-6" };
        const { envelope } = readyMessage("job-1");
        await queue.park(readyQueue, { body, properties, envelope });
        await parkOne("job-2", queueOf("unknown-1"));
        const asked: string[] = [];
        await queue.unpark((region) => {
          asked.push(region);
          return isMoved(region);
        });
        expect(new Set(asked)).toEqual(new Set([readyQueue.region, "unknown-1"]));
        expect(queue.regions()).toEqual([readyQueue.region]);
        const delivery = await takeOne();
        expect(delivery).toMatchObject({ readyQueue, properties, envelope });
        expect(delivery.body.equals(body)).toBe(true);
        await queue.unpark(() => true);
        expect(await takenFrom(queueOf("unknown-1"), 1)).toEqual(["job-2"]);
        expect(await queue.take(readyQueue)).toBeUndefined();
      });

      test("keep their order, and their priority, also after a restart and several checks", async () => {
        for (let index = 0; index < 20; index++) {
          await parkOne(`moved-${index}`, readyQueue);
          await parkOne(`stays-${index}`, queueOf("unknown-1", index % 2 === 0 ? "high" : "low"));
        }
        await queue.unpark(() => false);
        await reopen();
        await queue.unpark(isMoved);
        await queue.unpark(isMoved);
        const numbered = (name: string, numbers: readonly number[]) =>
          numbers.map((each) => `${name}-${each}`);
        const all = Array.from({ length: 20 }, (_, index) => index);
        expect(await takenFrom(readyQueue, 20)).toEqual(numbered("moved", all));
        await queue.unpark(() => true);
        for (const [priority, rest] of [["high", 0] as const, ["low", 1] as const]) {
          const expected = numbered(
            "stays",
            all.filter((index) => index % 2 === rest),
          );
          expect(await takenFrom(queueOf("unknown-1", priority), 10)).toEqual(expected);
        }
      });

      test("keep their order when they are parked during a check", async () => {
        let isParking = true;
        async function check(): Promise<void> {
          while (isParking) await queue.unpark(() => false);
        }
        const checking = check();
        const jobIds = Array.from({ length: 40 }, (_, index) => `job-${index}`);
        for (const jobId of jobIds) await parkOne(jobId, readyQueue);
        isParking = false;
        await checking;
        await queue.unpark(() => true);
        expect(await takenFrom(readyQueue, 40)).toEqual(jobIds);
      });

      test("are announced when they can be taken", async () => {
        await parkOne("job-1", readyQueue);
        const taken: (string | undefined)[] = [];
        queue.onReady((hinted) => {
          void queue.take(hinted).then((delivery) => {
            if (delivery) taken.push(delivery.envelope.jobId);
          });
        });
        await queue.unpark(() => true);
        await countOf(taken, 1);
        expect(taken).toEqual(["job-1"]);
      });
    });

    sameInAllVersions.describe("regions", () => {
      test("that are added are known, also after a restart", async () => {
        await queue.addRegion("ap-south-1");
        await queue.addRegion("ap-south-1");
        expect(queue.regions()).toEqual(["ap-south-1"]);
        await reopen();
        expect(queue.regions()).toEqual(["ap-south-1"]);
      });

      test("are known from the first offer on, also after a restart", async () => {
        expect(queue.regions()).toEqual([]);
        await queue.offer({ region: "ap-south-1", priority: "low" }, readyMessage("job-1"));
        await queue.offer({ region: "eu-central-1", priority: "low" }, readyMessage("job-2"));
        await queue.offer({ region: "ap-south-1", priority: "high" }, readyMessage("job-3"));
        expect(queue.regions().toSorted()).toEqual(["ap-south-1", "eu-central-1"]);
        await reopen();
        expect(queue.regions().toSorted()).toEqual(["ap-south-1", "eu-central-1"]);
        expect((await takeOne({ region: "ap-south-1", priority: "high" })).envelope.jobId).toBe("job-3");
      });
    });

    sameInAllVersions.describe("hints", () => {
      test("name the ready queue of an offer once its message can be taken", async () => {
        const taken: (string | undefined)[] = [];
        queue.onReady((hinted) => {
          void queue.take(hinted).then((delivery) => {
            if (delivery) taken.push(delivery.envelope.jobId);
          });
        });
        await queue.offer(readyQueue, readyMessage("job-1"));
        await countOf(taken, 1);
        expect(taken).toEqual(["job-1"]);
      });

      test("name every ready queue at the start", async () => {
        await queue.offer(readyQueue, readyMessage("job-1"));
        await queue.close();
        queue = broker.open();
        const hinted: ReadyQueue[] = [];
        queue.onReady((each) => void hinted.push(each));
        queue.start();
        await waitFor(
          () =>
            hinted.some(
              ({ region, priority }) => region === readyQueue.region && priority === readyQueue.priority,
            ),
          {
            timeoutMs: TIMEOUT_MS,
            what: "the ready queue's hint",
          },
        );
        expect(queue.isReady).toBe(true);
      });

      test("survive a listener that throws", async () => {
        queue.onReady(() => {
          throw new Error("failed");
        });
        await queue.offer(readyQueue, readyMessage("job-1"));
        expect((await takeOne()).envelope.jobId).toBe("job-1");
      });
    });

    sameInAllVersions.describe("results", () => {
      test("can be read with their ids", async () => {
        const result = sampleResult("job-1");
        await queue.publishResult(result, "c-5", []);
        expect(await broker.results()).toEqual([{ body: result, jobId: "job-1", correlationId: "c-5" }]);
      });

      test("need no correlation id", async () => {
        await queue.publishResult(sampleResult("job-1"), undefined, []);
        expect((await broker.results())[0]?.correlationId).toBeUndefined();
      });
    });

    test("an event needs no consumer", async () => {
      queue.publishEvent({
        job_id: "job-1",
        tenant: "acme",
        attempt: 1,
        seq: 1,
        state: "BUILDING",
        at: new Date().toISOString(),
      });
      await queue.submit(Buffer.from("still works"), {});
    });

    test("an aborted signal's reason ends a publish", async () => {
      const reason = new Error("enough");
      const signal = AbortSignal.abort(reason);
      await expect(queue.submit(Buffer.from("x"), {}, signal)).rejects.toBe(reason);
      await expect(queue.offer(readyQueue, readyMessage("x"), signal)).rejects.toBe(reason);
      await expect(queue.publishResult(sampleResult("x"), undefined, [], signal)).rejects.toBe(reason);
    });

    test("a closed queue publishes nothing, delivers nothing, and can be closed again", async () => {
      await queue.offer(readyQueue, readyMessage("job-1"));
      await queue.close();
      expect(queue.isReady).toBe(false);
      await expect(queue.submit(Buffer.from("x"), {})).rejects.toBeInstanceOf(QueueClosed);
      await expect(queue.offer(readyQueue, readyMessage("x"))).rejects.toBeInstanceOf(QueueClosed);
      await expect(queue.park(readyQueue, readyMessage("x"))).rejects.toBeInstanceOf(QueueClosed);
      await expect(queue.unpark(() => true)).rejects.toBeInstanceOf(Error);
      expect(await queue.take(readyQueue)).toBeUndefined();
      await queue.close();
    });
  });
}

import { afterAll, beforeAll, expect, test } from "bun:test";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { type OrchestratorSite, startOrchestratorSite } from "./orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

const prefixes = ["team-one", "team-two"];
let brokers: RabbitMqServer[];
let redis: Redis;

beforeAll(async () => {
  redis = await startRedis();
  brokers = await Promise.all(prefixes.map(() => borrowRabbitMq()));
});
afterAll(async () => {
  await Promise.all([redis, ...brokers].map((server) => server.stop()));
});

async function get<Answer>(site: OrchestratorSite, path: string): Promise<Answer> {
  const response = await apiRequest(site.adminUrl, `/api/v1/${path}`);
  return (await response.json()) as Answer;
}

const workerIds = async (site: OrchestratorSite) =>
  (await get<{ items: { id: string }[] }>(site, "workers")).items.map(({ id }) => id);

test("two installations with different key prefixes share one database of Redis", async () => {
  const sites = await Promise.all(
    brokers.map(({ url }, index) =>
      startOrchestratorSite(
        { rabbitMqUrl: url, redisUrl: redis.url },
        { BLACKTREE_KEY_PREFIX: prefixes[index] ?? "" },
      ),
    ),
  );
  const worker = await serveWorker(async () => successfulEnd(), {
    keptBytes: 1000,
    tail: { lines: 10, bytes: 1000 },
  });
  const [one, two] = sites;
  if (!one || !two) throw new Error("there are two sites");
  try {
    await one.addWorker("worker", INCARNATION, worker.port);
    two.submit("of-two");
    expect(await one.run("same-id")).toMatchObject({ status: "SUCCESS", worker_id: "worker" });
    expect([await workerIds(one), await workerIds(two)]).toEqual([["worker"], []]);
    await waitFor(async () => (await get<{ state?: string }>(two, "jobs/of-two")).state === "QUEUED", {
      timeoutMs: 60_000,
      what: "the job to wait, as its installation has no worker",
    });
    expect((await apiRequest(one.adminUrl, "/api/v1/jobs/of-two")).status).toBe(404);
    expect((await apiRequest(two.adminUrl, "/api/v1/jobs/same-id")).status).toBe(404);

    // The other installation's worker, which reports what it holds to both.
    await waitFor(() => worker.runs.held().length === 0, {
      timeoutMs: 60_000,
      what: "the worker to hold no run of the other installation",
    });
    // Its address and its id are not occupied here.
    await two.addWorker("worker", INCARNATION, worker.port);
    await waitFor(async () => (await get<{ state?: string }>(two, "jobs/of-two")).state === "SUCCEEDED", {
      timeoutMs: 60_000,
      what: "the waiting job to be built",
    });

    const strange = (await redis.cli("--scan"))
      .split("\n")
      .filter((key) => !prefixes.some((prefix) => key.startsWith(`{${prefix}}:`)));
    expect(strange).toEqual([]);
    const hasChannels = async () => {
      const channels = (await redis.cli("pubsub", "channels")).split("\n");
      expect(channels.toSorted()).toEqual(prefixes.map((prefix) => `{${prefix}}:changes`));
      return true;
    };
    await waitFor(hasChannels, { timeoutMs: 60_000, what: "both subscriptions" });
  } finally {
    await Promise.all(sites.map((site) => site.stop()));
    await worker.stop(100);
  }
});

/** A server that all programs share is killed, frozen or restarted, or loses its data. */
import { LEASE_TTL_MS, type Site } from "../site/site.ts";
import { AROUND_LEASE, type FaultKind, onServer, SOON } from "./fault.ts";

const healed = () => undefined;

async function killBroker({ backends: { rabbitmq } }: Site): Promise<void> {
  await rabbitmq.writeQueueList();
  await rabbitmq.kill();
}

export const SERVER_FAULTS: readonly FaultKind[] = [
  onServer(
    "RabbitMQ killed",
    "rabbitmq",
    { lastsMs: SOON, harms: ["messages"], recoversFrom: "heal" },
    (site) => ({
      begin: () => killBroker(site),
      heal: () => site.backends.rabbitmq.start(),
    }),
  ),
  onServer(
    "RabbitMQ frozen",
    "rabbitmq",
    { lastsMs: [1000, 8000], harms: ["messages"], recoversFrom: "heal" },
    ({ backends: { rabbitmq } }) => ({ begin: rabbitmq.pause, heal: rabbitmq.resume }),
  ),
  onServer(
    "RabbitMQ closes all connections",
    "rabbitmq",
    { lastsMs: [0, 0], harms: ["messages"], recoversFrom: "begin" },
    ({ backends: { rabbitmq } }) => ({
      async begin() {
        await rabbitmq.rabbitmqctl(["close_all_connections", "--vhost", rabbitmq.vhost, "a drill"]);
      },
      heal: healed,
    }),
  ),
  onServer(
    "Redis killed",
    "redis",
    {
      lastsMs: [0, LEASE_TTL_MS + 2000],
      harms: ["leases", "messages"],
      recoversFrom: "heal",
      forgets: true,
    },
    ({ backends: { redis } }) => ({ begin: redis.kill, heal: redis.start }),
  ),
  onServer(
    "Redis frozen",
    "redis",
    { lastsMs: AROUND_LEASE, harms: ["leases", "messages"], recoversFrom: "heal" },
    ({ backends: { redis } }) => ({ begin: redis.pause, heal: redis.resume }),
  ),
  onServer(
    "Redis flushed",
    "redis",
    { lastsMs: [0, 0], harms: ["leases", "messages"], recoversFrom: "begin", forgets: true },
    ({ backends: { redis } }) => ({
      async begin() {
        await redis.cli("FLUSHALL");
      },
      heal: healed,
    }),
  ),
  onServer(
    "registry restarted",
    "registry",
    { lastsMs: [500, 4000], harms: ["registry"], recoversFrom: "heal" },
    ({ backends: { registry } }) => ({ begin: registry.kill, heal: registry.start }),
  ),
  onServer(
    "Docker restarted",
    "docker",
    { lastsMs: [0, 2000], harms: ["docker"], recoversFrom: "heal" },
    ({ backends: { docker } }) => ({ begin: docker.kill, heal: docker.start }),
  ),
];

import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { findDebian13, missingDebian13 } from "../../../support/servers/debian-13.ts";
import { borrowRabbitMq } from "../../../support/servers/pool.ts";
import { startRedis } from "../../../support/servers/redis.ts";

const reason = await missingDebian13();
const suffix = reason === undefined ? "" : ` (skipped: ${reason})`;

test.skipIf(reason !== undefined)(`RabbitMQ 4.0 serves a virtual host${suffix}`, async () => {
  const server = await borrowRabbitMq("4.0");
  try {
    expect((await server.rabbitmqctl(["version"])).stdout).toStartWith("4.0.");
    expect((await server.rabbitmqctl(["--quiet", "list_vhosts"])).stdout).toContain(server.vhost);
  } finally {
    await server.stop();
  }
});

test.skipIf(reason !== undefined).each([
  ["Redis 8.0", /^redis_version:8\.0\./m],
  ["Valkey 8.1", /^valkey_version:8\.1\./m],
] as const)(`%s answers, and its mounts are visible to it alone${suffix}`, async (name, version) => {
  const server = await startRedis({ server: name });
  try {
    expect(await server.cli("info", "server")).toMatch(version);
    const debian = await findDebian13();
    const tree = debian.available ? debian.launcher.at(-2) : "";
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(`${tree}/`);
  } finally {
    await server.stop();
  }
});

/** The servers that the files of a test run share, and the isolation of each file's virtual host or engine. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { connect } from "amqplib";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { startProcess } from "../../../support/machine/processes.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { missingDebian13 } from "../../../support/servers/debian-13.ts";
import {
  importBaseImage,
  missingDockerEngine,
  startDockerEngine,
} from "../../../support/servers/docker-engines.ts";
import { resetDockerEngine } from "../../../support/servers/docker-reset.ts";
import { borrowDockerEngine, borrowRabbitMq } from "../../../support/servers/pool.ts";

test("pool: each borrower of RabbitMQ has a separate virtual host, which is deleted on return", async () => {
  const [one, other] = await Promise.all([borrowRabbitMq(), borrowRabbitMq()]);
  expect(one.port).toBe(other.port);
  const connection = await connect(one.url);
  const channel = await connection.createChannel();
  await channel.assertQueue("mine", { durable: true, arguments: { "x-queue-type": "quorum" } });
  await connection.close();
  expect((await one.queueTotals(one.vhost)).map(({ name }) => name)).toEqual(["mine"]);
  expect(await other.queueTotals(other.vhost)).toEqual([]);
  await Promise.all([one.stop(), other.stop()]);
  await expect(connect(one.url)).rejects.toThrow();
});

const versions =
  (await missingDebian13()) === undefined ? (["installed", "4.0"] as const) : (["installed"] as const);
for (const version of versions) {
  inFullCheck(version === "4.0").test(
    `pool: the counts of queues are those of now, by RabbitMQ (${version})`,
    async () => {
      const rabbitmq = await borrowRabbitMq(version);
      const connection = await connect(rabbitmq.url);
      const channel = await connection.createConfirmChannel();
      for (const [queue, type] of [
        ["replicated", "quorum"],
        ["plain", "classic"],
      ] as const) {
        await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": type } });
        for (let count = 0; count < 3; count++) channel.sendToQueue(queue, Buffer.from("one"));
        await channel.waitForConfirms();
        await channel.get(queue);
        const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
        expect(totals.find(({ name }) => name === queue)).toEqual({ name: queue, ready: 2, unacked: 1 });
      }
      await connection.close();
      await rabbitmq.stop();
    },
  );
}

const reason = await missingDockerEngine("20.10");

describe.skipIf(reason !== undefined)(`pool: Docker engines${reason ? ` (${reason})` : ""}`, () => {
  test("have one borrower at a time", async () => {
    const engines = await Promise.all([borrowDockerEngine("20.10"), borrowDockerEngine("20.10")]);
    const [one, other] = engines.map(({ host }) => host);
    expect(one).not.toBe(other);
    await Promise.all(engines.map((engine) => engine.stop()));
  });

  test("stay with their borrower when the previous one returns them once more", async () => {
    const previous = await borrowDockerEngine("20.10");
    await previous.stop();
    const lent = await borrowDockerEngine("20.10");
    await previous.stop();
    const next = await borrowDockerEngine("20.10");
    expect(next.host).not.toBe(lent.host);
    await Promise.all([lent.stop(), next.stop()]);
  });

  test("are empty for their next borrower", async () => {
    const engine = await startDockerEngine({ engine: "20.10" });
    try {
      const image = await importBaseImage(engine);
      const { stdout: id } = await engine.docker([
        "run",
        "--detach",
        "--volume=kept:/kept",
        image,
        "/bin/sh",
      ]);
      expect(id).not.toBe("");
      await resetDockerEngine(engine);
      const lists = [
        ["images", "--all"],
        ["ps", "--all"],
        ["volume", "ls"],
      ];
      for (const list of lists) expect((await engine.docker([...list, "--quiet"])).stdout).toBe("");
    } finally {
      await engine.stop();
    }
  });

  test("end with the run, also when it is killed", async () => {
    const pool = JSON.stringify(join(import.meta.dir, "../../../support/servers/pool.ts"));
    const borrower = startProcess(
      [
        process.execPath,
        "-e",
        `const { borrowDockerEngine } = await import(${pool});
         const { host } = await borrowDockerEngine("20.10");
         process.stdout.write("host " + host + "\\n");
         setInterval(() => undefined, 1_000);`,
      ],
      // Not part of this test run.
      { env: { JEST_WORKER_ID: undefined } },
    );
    const host = (await borrower.waitForLine(/^host /, { timeoutMs: 180_000 })).slice("host unix://".length);
    expect(existsSync(host)).toBe(true);
    await borrower.kill();
    await waitFor(() => !existsSync(dirname(host)), {
      timeoutMs: 120_000,
      what: "the engine's folder to be removed",
    });
  });
});

/** The contract with RabbitMQ 4.0; in the full check, all tests of this folder run with it. */
import { afterAll, beforeAll, describe } from "bun:test";
import { missingDebian13 } from "../../../../support/servers/debian-13.ts";
import { borrowRabbitMq } from "../../../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../../../support/servers/rabbitmq.ts";
import { describeQueueContract } from "../queue-contract.ts";
import { rabbitMqBroker } from "./broker.ts";

const reason = await missingDebian13();

describe.skipIf(reason !== undefined)(reason === undefined ? "4.0" : `4.0 (skipped: ${reason})`, () => {
  let server: RabbitMqServer;

  beforeAll(async () => {
    server = await borrowRabbitMq("4.0");
  });
  afterAll(() => server.stop());

  describeQueueContract("RabbitMQ", async () => rabbitMqBroker(server.url), { isOtherVersion: true });
});

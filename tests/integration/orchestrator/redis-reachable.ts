/** Says whether Redis can be used at the URL that is its one argument: trust is a matter of a process's start. */
import pino from "pino";
import { connectInBackground, createRedisClient } from "../../../src/orchestrator/redis-client.ts";

const client = createRedisClient({ url: process.argv[2] ?? "", logger: pino({ level: "silent" }) });
const answer = await Promise.race([
  new Promise<string>((resolve) => client.once("ready", () => resolve("reachable"))),
  new Promise<string>((resolve) => client.once("error", () => resolve("not reachable"))),
  new Promise<string>((resolve) => {
    connectInBackground(client);
    setTimeout(() => resolve("silent"), 5_000);
  }),
]);
process.stdout.write(`${answer}\n`);
process.exit(0);

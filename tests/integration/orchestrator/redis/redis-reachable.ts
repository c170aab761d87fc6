/**
 * Prints "reachable" or the code of the certificate error for the Redis URL that is its one argument. Trusted
 * certificates are set when a process starts, so each set needs its own process.
 */
import pino from "pino";
import { connectInBackground, createRedisClient } from "../../../../src/orchestrator/redis/client.ts";

const client = createRedisClient({
  url: process.argv[2] ?? "",
  keyPrefix: "{blacktree}:",
  logger: pino({ level: "silent" }),
});
const answer = await new Promise<string>((resolve) => {
  client.once("ready", () => resolve("reachable"));
  // A busy machine may exceed the connect timeout; the client then tries again.
  client.on("error", ({ code }: Error & { code?: unknown }) => {
    if (/CERT|SIGNATURE/.test(String(code))) resolve(String(code));
  });
  connectInBackground(client);
});
process.stdout.write(`${answer}\n`);
process.exit(0);

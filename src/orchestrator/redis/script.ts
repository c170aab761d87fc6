/** A script that Redis runs in one atomic step. */
import { createHash } from "node:crypto";
import type { RedisClient } from "./client.ts";

export class RedisScript {
  readonly #text: string;
  readonly #sha1: string;

  /** The parts are joined in this order, a part shared by several scripts first. */
  constructor(...parts: readonly string[]) {
    this.#text = parts.join("\n");
    this.#sha1 = createHash("sha1").update(this.#text).digest("hex");
  }

  /** All keys begin with `prefix`, whose hash tag keeps them on one node of a Cluster. */
  async run(client: RedisClient, prefix: string, args: readonly (string | number)[]): Promise<unknown> {
    try {
      return await client.evalsha(this.#sha1, 1, prefix, ...args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
      return await client.eval(this.#text, 1, prefix, ...args);
    }
  }
}

/** A script that Redis runs in one atomic step. */
import { createHash } from "node:crypto";
import type { Cluster, Redis } from "ioredis";

export type RedisClient = Redis | Cluster;

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
    const keys = declaredKeys(prefix);
    try {
      return await client.evalsha(this.#sha1, keys.length, ...keys, ...args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
      return await client.eval(this.#text, keys.length, ...keys, ...args);
    }
  }
}

/**
 * Which keys a script accesses depends on what it reads, so they cannot be declared. While a Cluster moves their slot,
 * they are on two nodes, and no script may decide by a part of them. Therefore it declares two keys that never exist:
 * the node that has the slot refers to the other one (ASK), which refuses several keys unless it has them all (TRYAGAIN).
 */
function declaredKeys(prefix: string): readonly string[] {
  return [prefix, `${prefix}never-exists`];
}

/** A script that Redis runs in one atomic step. */
import { createHash } from "node:crypto";
import { Cluster, type Redis } from "ioredis";

export type RedisClient = Redis | Cluster;

export class RedisScript {
  readonly #text: string;
  readonly #sha1: string;
  /** Connections that the text was sent on. */
  readonly #sentOn = new WeakSet<object>();

  /** The parts are joined in this order, a part shared by several scripts first. */
  constructor(...parts: readonly string[]) {
    this.#text = parts.join("\n");
    this.#sha1 = createHash("sha1").update(this.#text).digest("hex");
  }

  /**
   * All keys begin with `prefix`, whose hash tag keeps them on one node of a Cluster. Calls on one connection take effect
   * in their order: the first one sends the text. Only after SCRIPT FLUSH or a failover in a Cluster may they be swapped.
   */
  async run(client: RedisClient, prefix: string, args: readonly (string | number)[]): Promise<unknown> {
    const keys = declaredKeys(prefix);
    const connection = client instanceof Cluster ? client : client.stream;
    if (!this.#sentOn.has(connection)) {
      this.#sentOn.add(connection);
      return client.eval(this.#text, keys.length, ...keys, ...args);
    }
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

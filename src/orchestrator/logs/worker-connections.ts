/** One connection per worker, shared by all copies of its logs, and kept for the next ones. */
import type { WorkerClient } from "../workers/worker-client.ts";

interface Connection {
  readonly client: WorkerClient;
  users: number;
  isBroken: boolean;
  unused: NodeJS.Timeout | undefined;
}

export interface UsedConnection {
  readonly client: WorkerClient;
  /** Set by a user: the next one gets a new connection. A channel can stay in CONNECTING for ever. */
  isBroken: boolean;
  leave(): void;
}

const KEEP_UNUSED_MS = 30_000;

export class WorkerConnections {
  readonly #byAddress = new Map<string, Connection>();

  constructor(private readonly connect: (address: string) => WorkerClient) {}

  enter(address: string): UsedConnection {
    const connection = this.#current(address);
    connection.users += 1;
    clearTimeout(connection.unused);
    const leave = (isBroken: boolean) => {
      connection.users -= 1;
      if (isBroken) this.#abandon(address, connection);
      if (connection.users > 0) return;
      if (connection.isBroken) connection.client.close();
      else connection.unused = setTimeout(() => this.#close(address, connection), KEEP_UNUSED_MS);
    };
    const used: UsedConnection = {
      client: connection.client,
      isBroken: false,
      leave: () => leave(used.isBroken),
    };
    return used;
  }

  close(): void {
    for (const [address, connection] of this.#byAddress) this.#close(address, connection);
  }

  #current(address: string): Connection {
    const known = this.#byAddress.get(address);
    if (known) return known;
    const created = { client: this.connect(address), users: 0, isBroken: false, unused: undefined };
    this.#byAddress.set(address, created);
    return created;
  }

  #abandon(address: string, connection: Connection): void {
    connection.isBroken = true;
    if (this.#byAddress.get(address) === connection) this.#byAddress.delete(address);
  }

  #close(address: string, connection: Connection): void {
    clearTimeout(connection.unused);
    this.#abandon(address, connection);
    connection.client.close();
  }
}

import { createServer, connect as dial, type Socket } from "node:net";
import { freePort } from "../machine/free-port.ts";

export interface TcpProxy {
  readonly port: number;
  /** `127.0.0.1:<port>` */
  readonly address: string;
  /** Connections that were made to it so far. */
  readonly connections: number;
  /** A black hole: nothing passes any more, in neither direction, and no end is told of what happens at the other one. */
  cut(): void;
  /** Breaks all connections, and every new one at once. */
  reset(): void;
  /** What was cut goes on where it was, as after lost packets; after a reset, new connections pass. */
  heal(): void;
  stop(): Promise<void>;
}

/** More is not read while the way is cut: then the sender's own buffers fill, as they do on a dead line. */
const MOST_HELD_BYTES = 4 * 1024 * 1024;

/** One direction of one connection. */
class Lane {
  readonly #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    isCut: () => boolean,
    onLost: () => void,
  ) {
    from.on("data", (chunk: Buffer) => (isCut() ? this.#hold(chunk) : this.#pass(chunk)));
    // Nobody here closes one direction and still listens: an end that could not be told is a side that has left.
    from.on("end", () => (isCut() ? onLost() : to.end()));
    to.on("drain", () => !isCut() && from.resume());
  }

  heal(): void {
    for (const chunk of this.#held.splice(0)) this.#pass(chunk);
    this.#heldBytes = 0;
    if (!this.to.writableNeedDrain) this.from.resume();
  }

  #hold(chunk: Buffer): void {
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes > MOST_HELD_BYTES) this.from.pause();
  }

  #pass(chunk: Buffer): void {
    if (!this.to.destroyed && !this.to.write(chunk)) this.from.pause();
  }
}

/** One connection, as long as both its sides are there. */
class Passage {
  readonly #lanes: readonly Lane[];
  /** A side has gone while the other could not be told. */
  #isBroken = false;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly isCut: () => boolean,
    onGone: () => void,
  ) {
    const onLost = () => {
      this.#isBroken = true;
    };
    this.#lanes = [new Lane(client, server, isCut, onLost), new Lane(server, client, isCut, onLost)];
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      // The close that follows is what counts.
      socket.on("error", () => undefined);
      socket.on("close", () => this.#sideGone());
    }
    client.on("close", () => server.destroyed && onGone());
    server.on("close", () => client.destroyed && onGone());
  }

  /** What a side sent before it left during the cut is lost with it: nobody sends that again. */
  heal(): void {
    if (this.#isBroken) this.destroy();
    else for (const lane of this.#lanes) lane.heal();
  }

  destroy(): void {
    this.client.destroy();
    this.server.destroy();
  }

  #sideGone(): void {
    if (this.isCut()) this.#isBroken = true;
    else this.destroy();
  }
}

/** Stands before a server on this machine; what a network can do to connections, it can do. */
export async function startTcpProxy(target: { readonly port: number }): Promise<TcpProxy> {
  type Way = "open" | "cut" | "reset";
  let way: Way = "open";
  let connections = 0;
  const passages = new Set<Passage>();
  /** Came while the way was cut. */
  const waiting = new Set<Socket>();
  const isCut = () => way === "cut";

  function connect(client: Socket): void {
    const server = dial({ host: "127.0.0.1", port: target.port, allowHalfOpen: true });
    const passage: Passage = new Passage(client, server, isCut, () => passages.delete(passage));
    passages.add(passage);
    client.resume();
  }

  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    client.on("error", () => undefined);
    connections += 1;
    if (way === "reset") client.resetAndDestroy();
    else if (way === "cut") waiting.add(client);
    else connect(client);
  });
  const port = await freePort();
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen({ host: "127.0.0.1", port }, resolve);
  });

  function breakAll(): void {
    for (const passage of passages) passage.destroy();
    passages.clear();
    for (const client of waiting) client.destroy();
    waiting.clear();
  }

  return {
    port,
    address: `127.0.0.1:${port}`,
    get connections() {
      return connections;
    },
    cut() {
      way = "cut";
    },
    reset() {
      way = "reset";
      breakAll();
    },
    heal() {
      if (way === "open") return;
      way = "open";
      for (const passage of [...passages]) passage.heal();
      for (const client of waiting) if (!client.destroyed) connect(client);
      waiting.clear();
    },
    async stop() {
      breakAll();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

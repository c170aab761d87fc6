import { createServer, connect as dial, type Socket } from "node:net";
import { freePort } from "../machine/free-port.ts";

/** What a cut holds: the data of clients, that of the server, or both. */
export type CutTraffic = "requests" | "answers" | "both";

/** A place in the data of a client: the first chunk that matches. */
export interface Moment {
  matches(chunk: Buffer): boolean;
  /** Whether the chunk itself still passes. */
  readonly isPassed: boolean;
}

/** A cut that waits for its moment. */
export interface AwaitedCut {
  /** Resolves with the time of the cut, in ms since 1970. */
  readonly happened: Promise<number>;
  /** Has no effect after the cut. */
  cancel(): void;
}

export interface TcpProxy {
  readonly port: number;
  /** `127.0.0.1:<port>` */
  readonly address: string;
  /** Number of connections accepted so far. */
  readonly connections: number;
  /**
   * A black hole: nothing passes, by default in either direction, and the receiving end learns of no event at the
   * other end. New connections are not established, whichever direction is cut.
   */
  cut(traffic?: CutTraffic): void;
  /** Cuts when a chunk of any client matches. One cut at a time waits for its moment. */
  cutAt(moment: Moment, traffic?: CutTraffic): AwaitedCut;
  /** Breaks all connections, and every new one at once. */
  reset(): void;
  /** After a cut, held data passes on, as after lost packets; after a reset, new connections pass. */
  heal(): void;
  stop(): Promise<void>;
}

/** Reading stops at this limit during a cut: then the sender's buffers fill, as on a dead line. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

/** Called for each chunk, before and after it is passed on or held. */
interface ChunkWatch {
  before(chunk: Buffer): void;
  after(chunk: Buffer): void;
}

/** One direction of one connection. */
class Direction {
  readonly #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    isCut: () => boolean,
    onLost: () => void,
    watch: ChunkWatch,
  ) {
    from.on("data", (chunk: Buffer) => {
      watch.before(chunk);
      if (isCut()) this.#hold(chunk);
      else this.#pass(chunk);
      watch.after(chunk);
    });
    // No user of the proxy half-closes a connection: an end that cannot be forwarded is a side that has closed.
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
    if (this.#heldBytes > MAX_HELD_BYTES) this.from.pause();
  }

  #pass(chunk: Buffer): void {
    if (!this.to.destroyed && !this.to.write(chunk)) this.from.pause();
  }
}

/** One connection, until both its sides have closed. */
class ProxiedConnection {
  readonly #directions: readonly Direction[];
  /** A side has closed while the close could not be forwarded. */
  #isBroken = false;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly isCut: (direction: "requests" | "answers") => boolean,
    onClosed: () => void,
    watches: { readonly requests: ChunkWatch; readonly answers: ChunkWatch },
  ) {
    const onLost = () => {
      this.#isBroken = true;
    };
    this.#directions = [
      new Direction(client, server, () => isCut("requests"), onLost, watches.requests),
      new Direction(server, client, () => isCut("answers"), onLost, watches.answers),
    ];
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      // Only the close that follows counts.
      socket.on("error", () => undefined);
      socket.on("close", () => this.#onSideClosed(socket === client ? "requests" : "answers"));
    }
    client.on("close", () => server.destroyed && onClosed());
    server.on("close", () => client.destroyed && onClosed());
  }

  /** Data of a side that closed during the cut is lost: no side sends it again. */
  heal(): void {
    if (this.#isBroken) this.destroy();
    else for (const direction of this.#directions) direction.heal();
  }

  destroy(): void {
    this.client.destroy();
    this.server.destroy();
  }

  #onSideClosed(direction: "requests" | "answers"): void {
    if (this.isCut(direction)) this.#isBroken = true;
    else this.destroy();
  }
}

export interface TcpProxyOptions {
  /** Bytes of a client have arrived; they were passed on, or are held during a cut. */
  readonly onRequest?: (chunk: Buffer) => void;
  /** Bytes of the server, as above. */
  readonly onAnswer?: (chunk: Buffer) => void;
}

/** A proxy before a server on this machine that imitates network faults. */
export async function startTcpProxy(
  target: { readonly port: number },
  { onRequest = () => undefined, onAnswer = () => undefined }: TcpProxyOptions = {},
): Promise<TcpProxy> {
  type Mode = "open" | "reset" | { readonly cut: CutTraffic };
  let mode: Mode = "open";
  let awaited:
    | { readonly moment: Moment; readonly traffic: CutTraffic; happen(at: number): void }
    | undefined;
  let connections = 0;
  const openConnections = new Set<ProxiedConnection>();
  /** Clients that connected during a cut. */
  const waiting = new Set<Socket>();
  const isCut = (direction: "requests" | "answers") =>
    typeof mode === "object" && (mode.cut === "both" || mode.cut === direction);

  function cut(traffic: CutTraffic = "both"): void {
    mode = { cut: traffic };
  }

  function cutIfAwaited(chunk: Buffer, isPassed: boolean): void {
    if (awaited === undefined || awaited.moment.isPassed !== isPassed || !awaited.moment.matches(chunk))
      return;
    cut(awaited.traffic);
    awaited.happen(Date.now());
    awaited = undefined;
  }

  const watches = {
    requests: {
      before: (chunk: Buffer) => cutIfAwaited(chunk, false),
      after(chunk: Buffer) {
        cutIfAwaited(chunk, true);
        onRequest(chunk);
      },
    },
    answers: { before: () => undefined, after: onAnswer },
  };

  function connect(client: Socket): void {
    const server = dial({ host: "127.0.0.1", port: target.port, allowHalfOpen: true });
    const onClosed = () => openConnections.delete(connection);
    const connection: ProxiedConnection = new ProxiedConnection(client, server, isCut, onClosed, watches);
    openConnections.add(connection);
    client.resume();
  }

  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    client.on("error", () => undefined);
    connections += 1;
    if (mode === "reset") client.resetAndDestroy();
    else if (typeof mode === "object") waiting.add(client);
    else connect(client);
  });
  const port = await freePort();
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen({ host: "127.0.0.1", port }, resolve);
  });

  function breakAll(): void {
    for (const connection of openConnections) connection.destroy();
    openConnections.clear();
    for (const client of waiting) client.destroy();
    waiting.clear();
  }

  return {
    port,
    address: `127.0.0.1:${port}`,
    get connections() {
      return connections;
    },
    cut,
    cutAt(moment, traffic = "both") {
      const happened = Promise.withResolvers<number>();
      const own = { moment, traffic, happen: happened.resolve };
      awaited = own;
      return {
        happened: happened.promise,
        cancel() {
          if (awaited === own) awaited = undefined;
        },
      };
    },
    reset() {
      mode = "reset";
      breakAll();
    },
    heal() {
      if (mode === "open") return;
      mode = "open";
      for (const connection of [...openConnections]) connection.heal();
      for (const client of waiting) if (!client.destroyed) connect(client);
      waiting.clear();
    },
    async stop() {
      breakAll();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}

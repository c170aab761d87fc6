/** A Unix datagram socket, as systemd listens on for reports of its services. Bun has none, so this calls libc. */
import { dlopen } from "bun:ffi";
import { waitFor } from "./wait-for.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

export interface DatagramReceiver {
  /** All messages so far. */
  received(): readonly string[];
  /** Resolves with the first message that matches. */
  next(pattern: RegExp): Promise<string>;
  close(): void;
}

/** `address`: a path, or the name of an abstract socket after `@`. */
export function receiveDatagrams(address: string): DatagramReceiver {
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  const family = Buffer.from(new Uint16Array([AF_UNIX]).buffer);
  const bound = Buffer.concat([family, Buffer.from(address.replace(/^@/, "\0"))]);
  const socket = symbols.socket(AF_UNIX, SOCK_DGRAM, 0);
  if (symbols.bind(socket, bound, bound.length) !== 0) throw new Error(`cannot listen on ${address}`);
  const messages: string[] = [];
  const buffer = Buffer.alloc(64 * 1024);

  function received(): readonly string[] {
    for (;;) {
      const length = Number(symbols.recv(socket, buffer, buffer.length, MSG_DONTWAIT));
      if (length < 0) return messages;
      messages.push(buffer.toString("utf8", 0, length));
    }
  }

  return {
    received,
    next: (pattern) =>
      waitFor(() => received().find((message) => pattern.test(message)), {
        timeoutMs: 60_000,
        what: `a message that matches ${pattern}`,
      }),
    close: () => void symbols.close(socket),
  };
}

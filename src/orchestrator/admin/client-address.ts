import type { Context } from "hono";

/** What server.ts passes to the app with each request. */
export interface AdminEnv {
  readonly Bindings: {
    /** Of the connection; empty if it is closed already. */
    readonly clientAddress: string;
  };
}

/**
 * Whose requests count together: the address of the connection, or for IPv6 its network, since a single machine usually
 * has all addresses of a /64. Headers such as X-Forwarded-For do not count: any client can send them.
 */
export function clientOf(context: Context<AdminEnv>): string {
  return clientNetwork(context.env.clientAddress);
}

export function clientNetwork(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(":")) return mapped ?? address;
  const [head = "", tail] = address.split("%")[0]?.split("::") ?? [];
  const groups = (part: string | undefined) => (part ? part.split(":") : []);
  const missing = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array<string>(missing).fill("0"), ...groups(tail)];
  return `${all.slice(0, 4).join(":")}::/64`;
}

/** A network namespace whose only way out is one address of this machine. Needs root. */
import { randomInt } from "node:crypto";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { reserve } from "./free-port.ts";
import { run } from "./processes.ts";

export interface IsolatedNetwork {
  /** For servers that the namespace reaches. */
  readonly gateway: string;
  /** For servers in the namespace, which this machine reaches. */
  readonly guest: string;
  /** Of this machine too, and not reachable from the namespace. */
  readonly beyond: string;
  /** A command that runs the following arguments in the namespace. */
  readonly enter: readonly string[];
  /** The URL of a server on loopback, at `beyond`. */
  relay(url: string): Promise<string>;
  remove(): Promise<void>;
}

/** Addresses are from the network for benchmarks (RFC 2544), which no host has. */
export async function isolatedNetwork(): Promise<IsolatedNetwork> {
  const number = await freeNumber();
  const name = `blacktree${process.pid}`;
  const [outer, inner] = [`bt${process.pid}o`, `bt${process.pid}i`];
  const [gateway, guest, beyond] = [`198.18.${number}.1`, `198.18.${number}.2`, `198.19.${number}.1`];
  const within = ["ip", "netns", "exec", name];
  const relays: Server[] = [];
  const remove = async () => {
    for (const each of relays) each.close();
    await run(["ip", "netns", "del", name], { mayFail: true });
    await run(["ip", "link", "del", outer], { mayFail: true });
    await run(["ip", "address", "del", `${beyond}/32`, "dev", "lo"], { mayFail: true });
  };
  try {
    await run(["ip", "netns", "add", name]);
    await run(["ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name]);
    await run(["ip", "address", "add", `${gateway}/30`, "dev", outer]);
    await run(["ip", "address", "add", `${beyond}/32`, "dev", "lo"]);
    await run(["ip", "link", "set", outer, "up"]);
    await run([...within, "ip", "address", "add", `${guest}/30`, "dev", inner]);
    for (const device of ["lo", inner]) await run([...within, "ip", "link", "set", device, "up"]);
  } catch (error) {
    await remove();
    throw error;
  }
  // `ip netns exec` would hide the machine's control groups.
  const enter = ["nsenter", `--net=/run/netns/${name}`];
  return {
    gateway,
    guest,
    beyond,
    enter,
    async relay(url) {
      const { server, port } = await startRelay(beyond, Number(new URL(url).port));
      relays.push(server);
      return url.replace(/127\.0\.0\.1:\d+/, `${beyond}:${port}`);
    },
    remove,
  };
}

/** Of networks that no other test has. */
async function freeNumber(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const number = randomInt(1, 255);
    if (await reserve(`network-${number}`)) return number;
  }
  throw new Error("no free network found between 198.18.1.0 and 198.18.254.0");
}

async function startRelay(host: string, toPort: number): Promise<{ server: Server; port: number }> {
  const server = createServer((from) => {
    const to = connect(toPort, "127.0.0.1");
    for (const socket of [from, to]) socket.on("error", () => undefined);
    from.pipe(to).pipe(from);
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

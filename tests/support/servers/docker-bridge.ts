import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../machine/processes.ts";

/** A separate bridge isolates engines, which would otherwise all use docker0 and its firewall rules. */
export async function makeBridge(dir: string): Promise<string> {
  const bridge = `bt${crypto.randomUUID().slice(0, 8)}`;
  const taken = (await run(["ip", "-o", "route", "show", "table", "all"])).stdout;
  const byte = () => Math.floor(Math.random() * 256);
  let network: string;
  do network = `10.${200 + (byte() % 50)}.${byte()}`;
  while (taken.includes(`${network}.`));
  // Written first: a run that is killed between the two leaves a name without a bridge, never the reverse.
  await Bun.write(join(dir, "bridge"), bridge);
  await run(["ip", "link", "add", bridge, "type", "bridge"]);
  await run(["ip", "address", "add", `${network}.1/24`, "dev", bridge]);
  await run(["ip", "link", "set", bridge, "up"]);
  return bridge;
}

export async function removeBridge(dir: string): Promise<void> {
  const bridge = await readFile(join(dir, "bridge"), "utf8").catch(() => undefined);
  if (bridge !== undefined) await run(["ip", "link", "delete", bridge], { mayFail: true });
}

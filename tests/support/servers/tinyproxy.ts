/** Debian's tinyproxy, unpacked and not installed. */
import { join } from "node:path";
import { distribution, extractDebianPackages } from "../machine/apt.ts";
import { freePort } from "../machine/free-port.ts";
import { startProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";

export interface Tinyproxy {
  /** With user and password, if it asks for them. */
  readonly url: string;
  stop(): Promise<void>;
}

export async function startTinyproxy(
  address: string,
  login?: { readonly user: string; readonly password: string },
): Promise<Tinyproxy> {
  const dir = await makeTempDir("tinyproxy");
  const { codename } = await distribution();
  await extractDebianPackages(["tinyproxy-bin"], codename, dir.path);
  const port = await freePort();
  const lines = [
    `Port ${port}`,
    `Listen ${address}`,
    "MaxClients 100",
    ...(login ? [`BasicAuth ${login.user} ${login.password}`] : []),
  ];
  const settings = join(dir.path, "tinyproxy.conf");
  await Bun.write(settings, `${lines.join("\n")}\n`);
  const child = startProcess([join(dir.path, "usr/bin/tinyproxy"), "-d", "-c", settings]);
  await child.waitForLine(/Accepting connections|Starting main loop/);
  const userinfo = login ? `${login.user}:${login.password}@` : "";
  return {
    url: `http://${userinfo}${address}:${port}`,
    async stop() {
      await child.stop();
      await dir.remove();
    },
  };
}

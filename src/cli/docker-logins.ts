/** The logins in docker's configuration file, in the format of a job's `registry_auths`. */
import { z } from "zod";
import { DOCKER_HUB, DOCKER_HUB_KEY, registryHost } from "../shared/registry-login.ts";
import { WrongUsage } from "./wrong-usage.ts";

const DOCKER_CONFIG = z.object({
  auths: z.record(
    z.string(),
    z.object({ auth: z.string().optional(), identitytoken: z.string().optional() }),
  ),
});

/**
 * @param where names the file in messages, which never show what it contains besides hosts
 * @returns undefined if the value is not docker's configuration
 */
export function dockerLogins(config: unknown, where: string): Readonly<Record<string, unknown>> | undefined {
  if (!Object.hasOwn(Object(config), "auths")) return undefined;
  const { success, data } = DOCKER_CONFIG.safeParse(config);
  if (!success) throw new WrongUsage(`${where}: its auths are not logins as docker login writes them`);
  const logins = Object.entries(data.auths).map(([key, { auth = "", identitytoken }]) => {
    const host = hostOf(key);
    if (host === undefined) throw new WrongUsage(`${where}: a key of auths is not the host of a registry`);
    if (identitytoken) return [host, { identity_token: identitytoken }];
    const [, username, password] = /^([^:]+):(.+)$/s.exec(Buffer.from(auth, "base64").toString()) ?? [];
    if (password !== undefined) return [host, { username, password }];
    throw new WrongUsage(
      `${where}: it has no password for ${host}, which docker keeps in a credential helper; write the login into a file as {"${host}": {"username": "…", "password": "…"}}`,
    );
  });
  return Object.fromEntries(logins);
}

/** Docker also writes URLs as keys. */
function hostOf(key: string): string | undefined {
  if (key === DOCKER_HUB_KEY) return DOCKER_HUB;
  return registryHost(key.replace(/^https?:\/\//, "").replace(/\/.*$/s, ""));
}

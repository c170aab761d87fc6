import { join } from "node:path";
import type { RegistryAccess } from "./registry-access.ts";

/** The run's own docker configuration: nothing of the host's logins is in it, and it goes with the run's folder. */
export async function writeDockerConfig(dockerConfigDir: string, access: RegistryAccess): Promise<void> {
  const { credentials, host } = access;
  const auths = credentials && {
    [host]: { auth: Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64") },
  };
  await Bun.write(join(dockerConfigDir, "config.json"), JSON.stringify({ auths }), { mode: 0o600 });
}

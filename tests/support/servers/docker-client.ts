import { chmod, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { DockerPrograms } from "./docker-programs.ts";

/**
 * A client with a plugin from a separate folder. The client searches plugins in its configuration folder and in four
 * system folders, and no variable adds another one. A program that sets a configuration folder per job would therefore
 * not find a plugin that is not installed; so this adds a link to any configuration folder that it is called with.
 */
function clientWithPlugin(docker: string, plugin: string, configDir: string): string {
  return `#!/bin/sh
: "\${DOCKER_CONFIG:=${configDir}}"
export DOCKER_CONFIG
config="$DOCKER_CONFIG"
case "$1" in
  --config) config="$2" ;;
  --config=*) config="\${1#--config=}" ;;
esac
if [ ! -e "$config/cli-plugins/docker-buildx" ]; then
  mkdir -p "$config/cli-plugins" && ln -sf '${plugin}' "$config/cli-plugins/docker-buildx"
fi 2>/dev/null
exec '${docker}' "$@"
`;
}

/** Creates a folder that, first in PATH, makes `docker` the engine's client. */
export async function makeBinDir(binDir: string, programs: DockerPrograms, configDir: string): Promise<void> {
  const client = join(binDir, "docker");
  await mkdir(binDir);
  await mkdir(configDir);
  if (programs.buildxPlugin === undefined) {
    await symlink(programs.docker, client);
  } else {
    await Bun.write(client, clientWithPlugin(programs.docker, programs.buildxPlugin, configDir));
    await chmod(client, 0o755);
  }
}

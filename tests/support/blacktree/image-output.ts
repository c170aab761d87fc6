import { join } from "node:path";
import { makeTempDir } from "../machine/temp-dir.ts";
import { containerOutput, type DockerEngine } from "../servers/docker-engines.ts";

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** The output of the image when it is pulled and run as any consumer would do. */
export async function imageOutput(docker: DockerEngine, image: string, login: Login): Promise<string> {
  const config = await makeTempDir("login");
  try {
    const [host = ""] = image.split("/");
    const auths = { [host]: { auth: btoa(`${login.username}:${login.password}`) } };
    await Bun.write(join(config.path, "config.json"), JSON.stringify({ auths }));
    const env = { DOCKER_CONFIG: config.path };
    await docker.docker(["pull", "--quiet", image], { env });
    const stdout = await containerOutput(docker, image, [], { env });
    await docker.docker(["image", "rm", "--force", image], { env });
    return stdout.trimEnd();
  } finally {
    await config.remove();
  }
}

/** BLACKTREE_REGISTRY_AUTH: the operator's logins for all jobs, in the format of docker's `config.json`. */
import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Logger } from "../../shared/logging.ts";
import type { HostEnvironment } from "../process/child-environment.ts";
import type { BaseLogin, BaseLoginRequest, BaseLoginSource } from "./base-logins.ts";
import { helperProgram, loginFromHelper } from "./credential-helper.ts";
import { type DockerAuths, readDockerAuths } from "./docker-auths.ts";

export const REGISTRY_AUTH = "BLACKTREE_REGISTRY_AUTH";

export interface RegistryAuthFileOptions {
  readonly path: string;
  /** Valid content, from the worker's start. */
  readonly auths: DockerAuths;
  readonly environment: HostEnvironment;
  readonly logger: Logger;
}

/** Reads the file again for each job. A file that has become invalid leaves the worker with its earlier content. */
export class RegistryAuthFile implements BaseLoginSource {
  readonly #options: RegistryAuthFileOptions;
  #auths: DockerAuths;

  constructor(options: RegistryAuthFileOptions) {
    this.#options = options;
    this.#auths = options.auths;
    this.#warn();
  }

  async baseLogins({ signal }: BaseLoginRequest): Promise<readonly BaseLogin[]> {
    await this.#read();
    const { logins, helpers } = this.#auths;
    const asked = [...helpers].map(async ([host, helper]): Promise<BaseLogin> => {
      try {
        const login = await loginFromHelper(helper, this.#options.environment, signal);
        return { host, source: REGISTRY_AUTH, login };
      } catch (error) {
        signal.throwIfAborted();
        const problem = error instanceof Error ? error.message : String(error);
        return { host, source: REGISTRY_AUTH, login: { problem } };
      }
    });
    const stored = [...logins].map(([host, login]) => ({ host, source: REGISTRY_AUTH, login }));
    return [...stored, ...(await Promise.all(asked))];
  }

  async #read(): Promise<void> {
    const { path, logger } = this.#options;
    try {
      this.#auths = readDockerAuths(await readFile(path, "utf8"));
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      logger.warn({ path, problem }, `${REGISTRY_AUTH} cannot be reread, using its earlier content`);
    }
  }

  #warn(): void {
    const { path, environment, logger } = this.#options;
    const mode = statSync(path).mode & 0o777;
    if (mode & 0o007)
      logger.warn(
        { path, mode: mode.toString(8).padStart(4, "0") },
        `other users can read or change the logins of ${REGISTRY_AUTH}: chmod 600 ${path}`,
      );
    const { PATH = "" } = environment;
    for (const helper of this.#auths.helpers.values()) {
      const program = helperProgram(helper);
      if (Bun.which(program, { PATH }) === null)
        logger.warn({ path, program }, `${REGISTRY_AUTH} names a credential helper that is not in PATH`);
    }
  }
}

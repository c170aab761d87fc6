/** Registries of other AWS accounts that BLACKTREE_ECR_BASE_REPOS names: builds pull base images from them. */

import type { BaseLogin, BaseLoginRequest, BaseLoginSource } from "../base-logins.ts";
import { type EcrSettings, REQUEST_TIMEOUT_MS, requestToken, TOKEN_USABLE_FOR_MS } from "./authenticator.ts";
import { EcrClients } from "./clients.ts";
import { type BaseRepository, type EcrRegistry, pullPolicy } from "./role.ts";
import { EcrTokenCache } from "./token-cache.ts";

export const ECR_BASE_REPOS = "BLACKTREE_ECR_BASE_REPOS";

export interface EcrBaseSettings extends Pick<EcrSettings, "role" | "requestTimeoutMs"> {
  readonly repositories: readonly BaseRepository[];
}

/**
 * Signs in only for a Dockerfile that may name the registry. Every login is one for this purpose: with a role, that of a
 * session that may pull these repositories and do nothing else.
 */
export class EcrBaseRegistries implements BaseLoginSource {
  readonly #registries: ReadonlyMap<string, EcrRegistry>;
  readonly #repositories: readonly BaseRepository[];
  readonly #clients: EcrClients;
  readonly #tokens = new EcrTokenCache(TOKEN_USABLE_FOR_MS);

  constructor({ role, repositories, requestTimeoutMs = REQUEST_TIMEOUT_MS }: EcrBaseSettings) {
    this.#repositories = repositories;
    this.#registries = new Map(
      repositories.flatMap(({ registry }) => (registry ? [[registry.host, registry]] : [])),
    );
    this.#clients = new EcrClients(role, requestTimeoutMs);
  }

  async baseLogins(request: BaseLoginRequest): Promise<readonly BaseLogin[]> {
    const used = [...this.#registries.values()].filter(({ account }) => request.mayUse(account));
    const logins = await Promise.all(used.map((registry) => this.#loginAt(registry, request)));
    request.signal.throwIfAborted();
    return logins;
  }

  async #loginAt(registry: EcrRegistry, { job }: BaseLoginRequest): Promise<BaseLogin> {
    const { host, region } = registry;
    const names = this.#repositories.filter((one) => one.registry?.host === host).map(({ name }) => name);
    const ecr = this.#clients.forPulls(job, registry, pullPolicy(registry, names, job.tenant));
    try {
      const { username, password } = this.#clients.areOfOneJob
        ? await requestToken(ecr)
        : await this.#tokens.get(region, () => requestToken(ecr));
      return { host, source: ECR_BASE_REPOS, login: { username, password } };
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      return { host, source: ECR_BASE_REPOS, login: { problem } };
    }
  }
}

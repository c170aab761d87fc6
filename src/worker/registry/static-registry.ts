import type { RegistryAccess, RegistryAuthenticator, RegistryCredentials } from "./access.ts";

export interface StaticRegistrySettings {
  /** `host`, `host:port` or a URL. Without a scheme: http on loopback, else https, as docker does. */
  readonly registry: string;
  readonly credentials?: RegistryCredentials;
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i;

/** All jobs push to one registry that is not ECR; their account and region are ignored. */
export class StaticRegistryAuthenticator implements RegistryAuthenticator {
  readonly #access: RegistryAccess;

  constructor({ registry, credentials }: StaticRegistrySettings) {
    const scheme = LOOPBACK.test(registry) ? "http" : "https";
    const { host, origin } = new URL(registry.includes("://") ? registry : `${scheme}://${registry}`);
    this.#access = { host, origin, credentials, tagMutability: "unknown" };
  }

  async authenticate(): Promise<RegistryAccess> {
    return this.#access;
  }
}

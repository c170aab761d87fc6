/** Hosts of registries and logins there, as image names and docker's configuration write them. */

export type RegistryLogin =
  | { readonly username: string; readonly password: string }
  /** For the token server of the registry, which issues a token for it. */
  | { readonly identityToken: string };

/** The name of Docker Hub in image names. */
export const DOCKER_HUB = "docker.io";
/** The key of its login in docker's configuration. */
export const DOCKER_HUB_KEY = "https://index.docker.io/v1/";
const DOCKER_HUB_NAMES = new Set([DOCKER_HUB, "index.docker.io", "registry-1.docker.io", DOCKER_HUB_KEY]);

/** A first part of an image name without dot or port is a user of Docker Hub, except localhost. */
const REGISTRY_HOST =
  /^(?=.{1,255}$)(?:localhost|(?=[^:]*[.:])[a-z0-9]+(?:[.-]+[a-z0-9]+)*|\[[0-9a-f:.]+\])(?::\d{1,5})?$/;

/** In lower case, and the same for all names of Docker Hub; undefined for a text that is not a registry's host. */
export function registryHost(text: string): string | undefined {
  const host = text.toLowerCase();
  if (DOCKER_HUB_NAMES.has(host)) return DOCKER_HUB;
  return REGISTRY_HOST.test(host) ? host : undefined;
}

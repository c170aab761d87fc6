/**
 * Many registries, though not ECR, do not accept a password directly. They refer to a server that issues a token for
 * one repository and action (distribution specification, "Token Authentication").
 */

const PARAMETERS = /([a-z]+)="([^"]*)"/g;

/** The URL to request a token from, after a refusal; undefined when the registry expects the password itself. */
export function tokenUrlOf(refusal: Response, registryOrigin: string): URL | undefined {
  const challenge = refusal.headers.get("www-authenticate") ?? "";
  if (refusal.status !== 401 || !/^Bearer /i.test(challenge)) return undefined;
  const { realm = "", ...parameters } = Object.fromEntries(
    [...challenge.matchAll(PARAMETERS)].map(([, name = "", value = ""]) => [name, value]),
  );
  const url = URL.parse(realm);
  if (!url || isLessSecure(url, registryOrigin)) return undefined;
  for (const name of ["service", "scope"]) if (parameters[name]) url.searchParams.set(name, parameters[name]);
  return url;
}

/** A registry with TLS must not make the worker send the password to a server without TLS. */
function isLessSecure(url: URL, registryOrigin: string): boolean {
  return url.protocol !== "https:" && !(url.protocol === "http:" && registryOrigin.startsWith("http:"));
}

/**
 * Many registries, though not ECR, take no password themselves: they name a server that gives a token for it, good for
 * one repository and what is to be done there (distribution specification, "Token Authentication").
 */

const PARAMETERS = /([a-z]+)="([^"]*)"/g;

/** Where the token is asked for, after a refusal; undefined where the registry wants the password itself. */
export function tokenUrlOf(refusal: Response, registryOrigin: string): URL | undefined {
  const challenge = refusal.headers.get("www-authenticate") ?? "";
  if (refusal.status !== 401 || !/^Bearer /i.test(challenge)) return undefined;
  const { realm = "", ...asked } = Object.fromEntries(
    [...challenge.matchAll(PARAMETERS)].map(([, name = "", value = ""]) => [name, value]),
  );
  const url = URL.parse(realm);
  if (!url || isLessSecure(url, registryOrigin)) return undefined;
  for (const name of ["service", "scope"]) if (asked[name]) url.searchParams.set(name, asked[name]);
  return url;
}

/** A registry that was asked with TLS must not have the password sent elsewhere without. */
function isLessSecure(url: URL, registryOrigin: string): boolean {
  return url.protocol !== "https:" && !(url.protocol === "http:" && registryOrigin.startsWith("http:"));
}

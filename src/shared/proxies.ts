/**
 * The variables for HTTP proxies. Programs and libraries differ in what they read: curl, and so git, not HTTP_PROXY in
 * capitals; Go, and so docker and BuildKit, not ALL_PROXY, and never a proxy for loopback; Bun one for loopback too.
 */

/** As NO_PROXY lists them. URLs have IPv6 addresses in brackets. */
const LOOPBACK = ["localhost", "127.0.0.1", "::1", "[::1]"];
/** Only git supports others, such as SOCKS. */
const HTTP_PROXY_URL = /^https?:\/\//i;

/**
 * Makes all parts use the same proxies: this process's own requests, and git, docker and buildx, which get these
 * variables. Nothing on this machine is reached through a proxy: it would get the token of the admin API.
 */
export function unifyProxyVariables(environment: Record<string, string | undefined>): void {
  const read = (name: string) => environment[name] || environment[name.toUpperCase()] || undefined;
  const write = (name: string, value: string | undefined) => {
    if (value !== undefined) environment[name] = environment[name.toUpperCase()] = value;
  };
  const forAll = read("all_proxy");
  const fallback = forAll !== undefined && HTTP_PROXY_URL.test(forAll) ? forAll : undefined;
  const ofSchemes = ["http_proxy", "https_proxy"].map((name) => [name, read(name) ?? fallback] as const);
  for (const [name, value] of ofSchemes) write(name, value);
  write("all_proxy", forAll);
  if (forAll !== undefined || ofSchemes.some(([, value]) => value !== undefined))
    write("no_proxy", [read("no_proxy"), ...LOOPBACK].filter(Boolean).join(","));
}

/** The variables of HTTP proxies that are set, for a program that gets no others. Empty without a proxy. */
export function proxyVariables(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const given = (...names: readonly string[]) => {
    const all = names
      .flatMap((name) => [name, name.toUpperCase()])
      .map((name) => [name, environment[name]] as const);
    return all.filter((entry): entry is [string, string] => Boolean(entry[1]));
  };
  const proxies = given("http_proxy", "https_proxy");
  return proxies.length === 0 ? {} : Object.fromEntries([...proxies, ...given("no_proxy")]);
}

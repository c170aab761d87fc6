import type { ChildEnvironment } from "../process/child-environment.ts";

export interface HttpRequest {
  readonly environment: ChildEnvironment;
  readonly signal: AbortSignal;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** An HTTP request that takes the way git's take: the same proxies and authorities. No redirect is followed. */
export function sendRequest(url: string, { environment, ...request }: HttpRequest): Promise<Response> {
  const authorities = environment.GIT_SSL_CAINFO ?? environment.SSL_CERT_FILE;
  return fetch(url, {
    ...request,
    redirect: "manual",
    proxy: proxyFor(new URL(url), environment),
    tls: authorities === undefined ? undefined : { ca: Bun.file(authorities) },
  });
}

/** As curl reads these variables. */
export function proxyFor({ protocol, hostname }: URL, environment: ChildEnvironment): string | undefined {
  const either = (name: string) => environment[name.toLowerCase()] || environment[name];
  const without = (either("NO_PROXY") ?? "").split(",").map((entry) => entry.trim().replace(/^\./, ""));
  if (without.some((entry) => entry === "*" || entry === hostname || hostname.endsWith(`.${entry}`)))
    return undefined;
  // HTTP_PROXY in capitals could come from a request's header, so curl does not read it.
  const own = protocol === "https:" ? either("HTTPS_PROXY") : environment.http_proxy;
  return own || either("ALL_PROXY") || undefined;
}

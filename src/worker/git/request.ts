import type { ChildEnvironment } from "../process/child-environment.ts";

export interface HttpRequest {
  readonly environment: ChildEnvironment;
  readonly signal: AbortSignal;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Sends an HTTP request with the same proxies and certificate authorities as git. Does not follow redirects. */
export function sendRequest(url: string, { environment, ...request }: HttpRequest): Promise<Response> {
  const authorities = environment.GIT_SSL_CAINFO ?? environment.SSL_CERT_FILE;
  return fetch(url, {
    ...request,
    redirect: "manual",
    proxy: proxyFor(new URL(url), environment),
    tls: authorities === undefined ? undefined : { ca: Bun.file(authorities) },
  });
}

/** Reads these variables as curl does. */
export function proxyFor({ protocol, hostname }: URL, environment: ChildEnvironment): string | undefined {
  const either = (name: string) => environment[name.toLowerCase()] || environment[name];
  const without = (either("NO_PROXY") ?? "").split(",").map((entry) => entry.trim().replace(/^\./, ""));
  if (without.some((entry) => entry === "*" || entry === hostname || hostname.endsWith(`.${entry}`)))
    return undefined;
  // HTTP_PROXY in capitals could come from a request's header, so curl does not read it.
  const own = protocol === "https:" ? either("HTTPS_PROXY") : environment.http_proxy;
  return own || either("ALL_PROXY") || undefined;
}

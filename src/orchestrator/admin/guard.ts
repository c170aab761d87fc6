/** Access checks of the admin API: `Host` is allowed, `Origin` is absent or the same host, the token matches. */
import { timingSafeEqual } from "node:crypto";
import { hostname, networkInterfaces } from "node:os";
import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import { matchedRoutes } from "hono/route";
import type { Logger } from "../../shared/logging.ts";
import { type AdminEnv, clientOf } from "./client-address.ts";
import { FailedTries } from "./failed-tries.ts";
import { problem } from "./problem.ts";

const PUBLIC_PATHS: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);
const LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"];

/** A page of another site in a browser can reach this address, but only with the other site's name as `Host`. */
export function allowedHostsOnly(listenHost: string, hosts: readonly string[]) {
  const allowedHosts = new Set([
    ...LOOPBACK_NAMES,
    ...hosts,
    bracketed(listenHost),
    hostname().toLowerCase(),
    ...machineAddresses(),
  ]);
  return createMiddleware(async (context, next) => {
    const host = URL.parse(`http://${context.req.header("host") ?? ""}`);
    if (!host || !allowedHosts.has(host.hostname)) {
      return problem(context, {
        status: 403,
        title: "Foreign host",
        detail: "Host is not a name of this machine; BLACKTREE_ADMIN_HOSTS allows others",
      });
    }
    const origin = context.req.header("origin");
    if (origin !== undefined && URL.parse(origin)?.host !== host.host) {
      return problem(context, { status: 403, title: "Foreign origin", detail: "Origin is another site" });
    }
    return next();
  });
}

function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).map(({ address }) => bracketed(address)),
  );
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host.toLowerCase();
}

const FAILED_TRIES = { burst: 10, intervalMs: 1000, maxClients: 10_000 };

/**
 * Loopback needs a token too: other users of this machine reach it, and so do builds (`ADD http://127.0.0.1:8080/…`). A
 * client that has sent too many wrong tokens has to wait, also with the right one, or it could go on trying. A request
 * without a token is not a try, so that a build, which cannot send one, blocks no client of its machine.
 */
export function bearerToken(token: string, logger: Logger) {
  const failedTries = new FailedTries(FAILED_TRIES);
  return createMiddleware<AdminEnv>(async (context, next) => {
    if (PUBLIC_PATHS.has(context.req.path)) return next();
    const given = /^Bearer (.+)$/i.exec(context.req.header("authorization") ?? "")?.[1];
    if (given === undefined) return unauthorized(context);
    const client = clientOf(context);
    const waitMs = failedTries.waitMs(client);
    if (waitMs > 0) return tooManyTries(context, client, waitMs);
    if (isEqual(given, token)) return next();
    failedTries.add(client);
    if (failedTries.waitMs(client) > 0) logger.warn({ client }, "admin API: too many wrong tokens");
    return unauthorized(context);
  });
}

function unauthorized(context: Context): Response {
  context.header("WWW-Authenticate", "Bearer");
  return problem(context, {
    status: 401,
    title: "Token missing or wrong",
    detail: "expected Authorization: Bearer <token>",
  });
}

function tooManyTries(context: Context, client: string, waitMs: number): Response {
  const seconds = Math.ceil(waitMs / 1000);
  context.header("Retry-After", String(seconds));
  return problem(context, {
    status: 429,
    title: "Too many wrong tokens",
    detail: `wait ${seconds} s: ${client} has sent too many wrong tokens`,
  });
}

/** Compares in constant time. */
function isEqual(given: string, expected: string): boolean {
  const digest = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/** Browsers send other content types across sites without a preflight request. */
export const jsonPostsOnly = createMiddleware(async (context, next) => {
  // Where no POST is possible, that is the error to name.
  if (!matchedRoutes(context).some(({ method }) => method === "POST")) return next();
  const type = context.req.header("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json")
    return unsupported(context, "Wrong content type", "expected Content-Type: application/json");
  if (!["identity", ""].includes(context.req.header("content-encoding")?.trim().toLowerCase() ?? ""))
    return unsupported(context, "Wrong content encoding", "expected a body without Content-Encoding");
  return next();
});

function unsupported(context: Context, title: string, detail: string): Response {
  return problem(context, { status: 415, title, detail });
}

/** Otherwise routes would read a broken percent-encoding as ordinary characters, and bytes that are not UTF-8 as U+FFFD. */
export const wellFormedUrlsOnly = createMiddleware(async (context, next) => {
  const detail = urlProblem(context.req.url);
  return detail === undefined ? next() : problem(context, { status: 400, title: "Bad URL", detail });
});

function urlProblem(url: string): string | undefined {
  // Bun replaces bytes of the request that are not UTF-8.
  if (url.includes("\ufffd")) return "the URL is not UTF-8; expected %-encoded UTF-8";
  try {
    return decodeURIComponent(url).includes("\0") ? "the URL contains a NUL character" : undefined;
  } catch {
    return "the URL has a % that does not begin a UTF-8 character; expected %-encoded UTF-8, and %25 for a %";
  }
}

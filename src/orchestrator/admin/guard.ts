/** Access checks of the admin API: `Host` names this machine, `Origin` is absent or the same host, the token matches. */
import { timingSafeEqual } from "node:crypto";
import { hostname, networkInterfaces } from "node:os";
import { createMiddleware } from "hono/factory";
import { problem } from "./problem.ts";

const PUBLIC_PATHS: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);
const LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"];

/** A page of another site in a browser can reach this address, but only with the other site's name as `Host`. */
export function ownHostOnly(listenHost: string) {
  const allowedHosts = new Set([
    ...LOOPBACK_NAMES,
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
        detail: "Host is not a name of this machine",
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

/** Loopback is no exception: other users of this machine reach it, and so do builds (`ADD http://127.0.0.1:8080/…`). */
export function bearerToken(token: string) {
  return createMiddleware(async (context, next) => {
    if (PUBLIC_PATHS.has(context.req.path)) return next();
    const given = /^Bearer (.+)$/i.exec(context.req.header("authorization") ?? "")?.[1];
    if (given !== undefined && isEqual(given, token)) return next();
    context.header("WWW-Authenticate", "Bearer");
    return problem(context, {
      status: 401,
      title: "Token missing or wrong",
      detail: "expected Authorization: Bearer <token>",
    });
  });
}

/** Compares in constant time. */
function isEqual(given: string, expected: string): boolean {
  const digest = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/** Browsers send other content types across sites without a preflight request. */
export const jsonPostsOnly = createMiddleware(async (context, next) => {
  const type = context.req.header("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (context.req.method !== "POST" || type === "application/json") return next();
  return problem(context, {
    status: 415,
    title: "Wrong content type",
    detail: "expected Content-Type: application/json",
  });
});

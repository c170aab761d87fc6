/** Reads the logins in a configuration file of docker (`config.json`). */
import { DOCKER_HUB, DOCKER_HUB_KEY, type RegistryLogin, registryHost } from "../../shared/registry-login.ts";

/** Also a token that the registry itself accepts, which only an operator's file can contain. */
export type DockerLogin = RegistryLogin | { readonly registryToken: string };

/** By host. */
export interface DockerAuths {
  readonly logins: ReadonlyMap<string, DockerLogin>;
  readonly helpers: ReadonlyMap<string, CredentialHelper>;
}

/** A program `docker-credential-<name>` that has the login of `server`. */
export interface CredentialHelper {
  readonly name: string;
  /** As the file names the registry. */
  readonly server: string;
}

/** Lists everything that is wrong in the file. Names keys, never values. */
export class BadDockerAuths extends Error {
  override readonly name = "BadDockerAuths";
}

type Fields = Readonly<Record<string, unknown>>;

/** Part of a program's name. */
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** @throws BadDockerAuths */
export function readDockerAuths(text: string): DockerAuths {
  const problems: string[] = [];
  const file = parseObject(text);
  if (!file) throw new BadDockerAuths("is not a JSON object");
  const { auths = {}, credHelpers = {}, credsStore } = file;
  const entries = isObject(auths) ? Object.entries(auths) : [];
  if (!isObject(auths)) problems.push("auths is not an object");
  if (!isObject(credHelpers)) problems.push("credHelpers is not an object");
  const store = isHelperName(credsStore) ? credsStore : undefined;
  if (store === undefined && credsStore !== undefined && credsStore !== "")
    problems.push("credsStore is not a helper's name");

  const logins = new Map<string, DockerLogin>();
  const helpers = new Map<string, CredentialHelper>();
  for (const { host, key, value } of oneForEachHost(entries, problems)) {
    const login = loginOf(value);
    if (typeof login !== "string") logins.set(host, login);
    // Docker leaves an entry without a login for every login that it has put into the store.
    else if (login === EMPTY && store !== undefined) helpers.set(host, { name: store, server: key });
    else problems.push(`auths[${JSON.stringify(key)}] ${login}`);
  }
  for (const [key, name] of isObject(credHelpers) ? Object.entries(credHelpers) : []) {
    const host = registryHost(hostOf(key));
    if (host === undefined) problems.push(`credHelpers[${JSON.stringify(key)}] is not a registry's host`);
    else if (!isHelperName(name)) problems.push(`credHelpers[${JSON.stringify(key)}] is not a helper's name`);
    else helpers.set(host, { name, server: key });
  }
  if (problems.length > 0) throw new BadDockerAuths(problems.join("; "));
  // As in docker: a helper of the registry has precedence over an entry in the file.
  for (const host of helpers.keys()) logins.delete(host);
  return { logins, helpers };
}

/** The entry's key in `auths` for a host. */
export function authsKey(host: string): string {
  return registryHost(host) === DOCKER_HUB ? DOCKER_HUB_KEY : host;
}

/** The entry itself. */
export function authsEntry(login: DockerLogin): Readonly<Record<string, string>> {
  if ("identityToken" in login) return { identitytoken: login.identityToken };
  if ("registryToken" in login) return { registrytoken: login.registryToken };
  return { auth: Buffer.from(`${login.username}:${login.password}`).toString("base64") };
}

interface Entry {
  readonly host: string;
  readonly key: string;
  readonly value: unknown;
}

/**
 * Docker has one login for a registry, whatever the path in its key. A key without a path has precedence; of several
 * others, docker takes any.
 */
function oneForEachHost(entries: readonly (readonly [string, unknown])[], problems: string[]): Entry[] {
  const byHost = new Map<string, Entry[]>();
  for (const [key, value] of entries) {
    const host = registryHost(hostOf(key));
    if (host === undefined) problems.push(`auths[${JSON.stringify(key)}] is not a registry's host`);
    else byHost.set(host, [...(byHost.get(host) ?? []), { host, key, value }]);
  }
  return [...byHost.values()].flatMap((found) => {
    const whole = found.filter(({ key }) => /^([a-z]+:\/\/)?[^/]+(\/v[12])?\/?$/.test(key));
    const candidates = whole.length > 0 ? whole : found;
    const different = new Set(candidates.map(({ value }) => JSON.stringify(value)));
    if (different.size === 1) return candidates.slice(0, 1);
    const keys = candidates.map(({ key }) => JSON.stringify(key)).join(" and ");
    problems.push(`auths has different logins for one registry: ${keys}`);
    return [];
  });
}

/** Of a key, which may be a URL and have a path. */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/.*$/s, "");
}

const EMPTY = "has no login";

/** The login, or the problem as a text. */
function loginOf(value: unknown): DockerLogin | string {
  if (!isObject(value)) return "is not an object";
  const texts = ["auth", "username", "password", "identitytoken", "registrytoken"] as const;
  for (const name of texts)
    if (value[name] !== undefined && typeof value[name] !== "string") return `has ${name} that is not a text`;
  const { auth, username, password, identitytoken, registrytoken } = value as Record<
    string,
    string | undefined
  >;
  if (registrytoken) return { registryToken: registrytoken };
  if (identitytoken) return { identityToken: identitytoken };
  if (auth) return decoded(auth);
  if (username && password) return { username, password };
  if (username || password) return "has only one of username and password";
  return EMPTY;
}

function decoded(auth: string): DockerLogin | string {
  const pair = BASE64.test(auth) ? Buffer.from(auth, "base64").toString() : "";
  const [, username = "", password = ""] = /^([^:]+):(.+)$/s.exec(pair.replace(/\0+$/, "")) ?? [];
  return username === "" ? "has an auth that is not the base64 of user:password" : { username, password };
}

function parseObject(text: string): Fields | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return isObject(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function isHelperName(value: unknown): value is string {
  return typeof value === "string" && HELPER_NAME.test(value);
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

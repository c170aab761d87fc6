import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../machine/free-port.ts";
import { run, startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import type { TokenServer } from "./token-server.ts";

export interface RegistryCredentials {
  username: string;
  password: string;
}

export interface RegistryOptions {
  /** User AWS and a random password by default, as ECR requires; `false` allows anonymous access. */
  credentials?: RegistryCredentials | false;
  tls?: { certPath: string; keyPath: string };
  /** The registry accepts only this server's tokens, signed by this authority. `fetch` then has no access. */
  tokens?: { server: TokenServer; caPath: string };
  deleteEnabled?: boolean;
}

export interface StoredManifest {
  digest: string;
  mediaType: string;
  body: string;
  json: Manifest;
}

interface Descriptor {
  digest: string;
  mediaType: string;
  size: number;
  platform?: { os: string; architecture: string; variant?: string };
}

/** An image or an index: the fields of either that tests inspect. */
export interface Manifest {
  mediaType?: string;
  config?: Descriptor;
  layers?: Descriptor[];
  manifests?: Descriptor[];
}

export interface ImageConfig {
  architecture: string;
  os: string;
  config?: { Labels?: Record<string, string>; Cmd?: string[]; Env?: string[] };
}

/** As the registry itself has logged it. */
export interface CompletedRequest {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** When the registry had answered, in ms since 1970. */
  readonly at: number;
}

export interface Registry {
  readonly url: string;
  readonly host: string;
  readonly username: string;
  readonly password: string;
  readonly storageDir: string;
  /** The requests that it has completed, in that order, over all its starts. */
  completedRequests(): CompletedRequest[];
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Empty for a repository without a push. */
  listTags(repository: string): Promise<string[]>;
  /** By tag or digest; undefined when there is none. */
  getManifest(repository: string, reference: string): Promise<StoredManifest | undefined>;
  /** The configuration of an image; of an index, that of its first image. */
  getImageConfig(repository: string, reference: string): Promise<ImageConfig>;
  /** The content of a file of an image, without a pull. */
  readImageFile(repository: string, reference: string, path: string): Promise<string>;
  putManifest(repository: string, reference: string, manifest: StoredManifest): Promise<void>;
  /** Kills the server alone; its stored images stay. */
  kill(): Promise<void>;
  start(): Promise<void>;
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

const manifestTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

function randomCredentials(): RegistryCredentials {
  return { username: "AWS", password: crypto.randomUUID() };
}

function tokenSettings({ server, caPath }: NonNullable<RegistryOptions["tokens"]>) {
  return { realm: server.url, service: server.service, issuer: server.issuer, rootcertbundle: caPath };
}

async function writeConfig(
  dir: string,
  port: number,
  storageDir: string,
  credentials: RegistryCredentials | false,
  { tls, tokens, deleteEnabled = true }: RegistryOptions,
): Promise<string> {
  const path = join(dir, "config.yml");
  if (credentials) {
    const { username, password } = credentials;
    const { stdout } = await run(["htpasswd", "-Bbn", "-C", "4", username, password]);
    await Bun.write(join(dir, "htpasswd"), stdout);
  }
  // JSON is YAML.
  await Bun.write(
    path,
    JSON.stringify({
      version: 0.1,
      log: { level: "info", formatter: "json", accesslog: { disabled: true } },
      storage: {
        filesystem: { rootdirectory: storageDir },
        cache: { blobdescriptor: "inmemory" },
        delete: { enabled: deleteEnabled },
      },
      http: {
        addr: `127.0.0.1:${port}`,
        ...(tls && { tls: { certificate: tls.certPath, key: tls.keyPath } }),
      },
      ...(tokens && { auth: { token: tokenSettings(tokens) } }),
      ...(credentials && { auth: { htpasswd: { realm: "tests", path: join(dir, "htpasswd") } } }),
    }),
  );
  return path;
}

/** Of a line of the registry's log; empty for other lines. */
function completedRequest(line: string): CompletedRequest[] {
  if (!line.includes('"response completed')) return [];
  const fields = JSON.parse(line) as Record<string, unknown>;
  return [
    {
      method: String(fields["http.request.method"]),
      path: String(fields["http.request.uri"]),
      status: Number(fields["http.response.status"]),
      at: Date.parse(String(fields.time)),
    },
  ];
}

export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const { credentials = options.tokens ? false : randomCredentials(), tls } = options;
  const dir = await makeTempDir("registry");
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const url = `${tls ? "https" : "http"}://${host}`;
  const storageDir = join(dir.path, "storage");
  await mkdir(storageDir);
  const { username, password } = credentials || { username: "", password: "" };
  const authorization: Record<string, string> = credentials
    ? { Authorization: `Basic ${btoa(`${username}:${password}`)}` }
    : {};
  const configPath = await writeConfig(dir.path, port, storageDir, credentials, options);
  let server: TestProcess;
  const starts: TestProcess[] = [];

  const request = (path: string, init: RequestInit = {}) =>
    fetch(`${url}${path}`, {
      ...init,
      headers: { ...authorization, ...(init.headers as Record<string, string>) },
      // The programs under test verify certificates; the test's own requests do not.
      ...(tls && { tls: { rejectUnauthorized: false } }),
    });

  const isUp = ({ ok, status }: Response) => ok || (options.tokens !== undefined && status === 401);

  async function start(): Promise<void> {
    server = startProcess(["docker-registry", "serve", configPath], {
      env: { OTEL_TRACES_EXPORTER: "none" },
    });
    starts.push(server);
    const answer = await waitFor(
      async () => (server.exitCode === null ? isUp(await request("/v2/")) : "ended"),
      { timeoutMs: 60_000, what: `the registry at ${host} to answer` },
    );
    if (answer === "ended") throw new Error(`the registry ended at its start:\n${server.lines.join("\n")}`);
  }

  async function stop(): Promise<void> {
    await server.stop(2_000);
    await dir.remove();
  }

  async function getManifest(repository: string, reference: string): Promise<StoredManifest | undefined> {
    const response = await request(`/v2/${repository}/manifests/${reference}`, {
      headers: { Accept: manifestTypes },
    });
    const body = await response.text();
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(`the registry answered ${response.status}: ${body}`);
    return {
      digest: response.headers.get("docker-content-digest") ?? "",
      mediaType: response.headers.get("content-type") ?? "",
      body,
      json: JSON.parse(body) as Manifest,
    };
  }

  async function getImageConfig(repository: string, reference: string): Promise<ImageConfig> {
    const manifest = await getManifest(repository, reference);
    const first = manifest?.json.manifests?.[0];
    if (first) return getImageConfig(repository, first.digest);
    const digest = manifest?.json.config?.digest;
    if (digest === undefined) throw new Error(`${repository} has no image ${reference}`);
    const response = await request(`/v2/${repository}/blobs/${digest}`);
    return (await response.json()) as ImageConfig;
  }

  async function readImageFile(repository: string, reference: string, path: string): Promise<string> {
    const manifest = await getManifest(repository, reference);
    const first = manifest?.json.manifests?.[0];
    if (first) return readImageFile(repository, first.digest, path);
    for (const { digest } of (manifest?.json.layers ?? []).toReversed()) {
      const layer = await (await request(`/v2/${repository}/blobs/${digest}`)).bytes();
      const { stdout: names } = await run(["tar", "-tzf", "-"], { stdin: layer });
      if (names.split("\n").includes(path))
        return (await run(["tar", "-xzOf", "-", path], { stdin: layer })).stdout;
    }
    throw new Error(`no layer of ${repository}:${reference} has ${path}`);
  }

  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    url,
    host,
    username,
    password,
    storageDir,
    completedRequests: () => starts.flatMap(({ lines }) => lines.flatMap(completedRequest)),
    fetch: request,
    async listTags(repository) {
      const response = await request(`/v2/${repository}/tags/list`);
      if (response.status === 404) return [];
      const { tags } = (await response.json()) as { tags: string[] | null };
      return tags ?? [];
    },
    getManifest,
    getImageConfig,
    readImageFile,
    async putManifest(repository, reference, { mediaType, body }) {
      const response = await request(`/v2/${repository}/manifests/${reference}`, {
        method: "PUT",
        headers: { "Content-Type": mediaType },
        body,
      });
      if (!response.ok) throw new Error(`the registry answered ${response.status}: ${await response.text()}`);
    },
    kill: () => server.kill(),
    start,
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop,
  };
}

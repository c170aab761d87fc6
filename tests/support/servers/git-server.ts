import { rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../machine/free-port.ts";
import { type HeldRequests, Holds } from "../machine/held-requests.ts";
import { run } from "../machine/processes.ts";
import type { RepositoryFiles } from "../machine/sample-repository.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { isExecutable } from "../machine/write-files.ts";
import { createLfsStore, type LfsStore } from "./lfs-endpoint.ts";

export interface GitServerOptions {
  tls?: { certPath: string; keyPath: string };
}

export interface RepositoryOptions {
  branch?: string;
  /** Set at the first commit. */
  tags?: readonly string[];
  objectFormat?: "sha1" | "sha256";
  /** Only clients that send this token as the password have access; with any user name, or only with this one. */
  private?: { token: string; user?: string };
}

export interface CommitOptions {
  branch?: string;
  message?: string;
  tags?: readonly string[];
  /** Each is a tag object. */
  annotatedTags?: readonly string[];
  /** Files to remove. */
  remove?: readonly string[];
  /** The targets of links, by their paths. */
  symlinks?: Readonly<Record<string, string>>;
  /** Commits of submodules, by their paths; for this commit alone. */
  gitlinks?: Readonly<Record<string, string>>;
  /** Of all paths and targets of links; UTF-8 by default. */
  encoding?: "latin1";
}

/** A repository as it is stored. */
export interface StoredRepository {
  /** Its objects, which are not checked. */
  readonly pack: Uint8Array;
  /** Their ids, by the full names of the refs. */
  readonly refs: Readonly<Record<string, string>>;
  readonly objectFormat: "sha1" | "sha256";
}

export interface GitRequest {
  method: string;
  /** With the query. */
  path: string;
  hadAuthorization: boolean;
  /** The user name of the request's credentials. */
  user: string | undefined;
  status: number | undefined;
  /** Bytes of the response body sent so far. */
  sentBytes: number;
}

export interface GitServer {
  readonly baseUrl: string;
  readonly host: string;
  readonly requests: readonly GitRequest[];
  readonly lfs: LfsStore;
  /** Creates "owner/name" with one commit, and returns that commit's SHA. */
  createRepository(name: string, files: RepositoryFiles, options?: RepositoryOptions): Promise<string>;
  /** Creates "owner/name" from its parts. */
  importRepository(name: string, repository: StoredRepository): Promise<void>;
  /** Adds a commit with these files on top of the others. A new branch starts at the default branch's tip. */
  commit(name: string, files: RepositoryFiles, options?: CommitOptions): Promise<string>;
  /** Moves a branch to another commit; the commits cut off that way are then in no branch's history. */
  resetBranch(name: string, branch: string, sha: string): Promise<void>;
  /** Runs git in the repository, and returns what it prints. */
  git(name: string, ...args: string[]): Promise<string>;
  /** From now on only clients with this token have access, or all clients when undefined. */
  makePrivate(name: string, token: string | undefined): void;
  /** As if it had never existed. */
  removeRepository(name: string): void;
  /** The repository's HEAD names a commit from now on instead of a branch. */
  detachHead(name: string): Promise<void>;
  /** Answers the next `count` requests with this status, such as 503. */
  failNext(count: number, status: number, headers?: Record<string, string>): void;
  /** Answers requests by itself where `answer` returns a response, until the returned function is called. */
  intercept(answer: (request: GitRequest) => Response | undefined): () => void;
  /**
   * Sends this many empty packets, which keep a connection alive, before each pack, and waits for `pause` before each
   * of them.
   */
  keepAlive(packets: number, pause: () => Promise<void>): void;
  /** Holds all these requests, as a server that hangs does. */
  hold(matches?: (request: GitRequest) => boolean): HeldRequests<GitRequest>;
  stop(): Promise<void>;
}

interface Repository {
  gitDir: string;
  defaultBranch: string;
  token: string | undefined;
  user: string | undefined;
}

// The machine's git settings must not affect the tests' repositories.
const gitEnv = {
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_SYSTEM: "/dev/null",
  GIT_DIR: undefined,
  GIT_WORK_TREE: undefined,
};

// Shallow fetches of a commit by its SHA are allowed, as on hosting services. Every import makes a pack, because clones
// of unpacked repositories take several times as long. Git's default compression level doubles an import's time.
const repositoryConfig = `[core]
\tbare = true
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
[fastimport]
\tunpackLimit = 0
[pack]
\tcompression = 1
`;

async function git(cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(["git", ...args], { cwd, env: gitEnv });
  return stdout.trim();
}

/** What `git init --bare` does, without the files that git does not need. */
async function initBare(gitDir: string, branch: string, objectFormat = "sha1"): Promise<void> {
  await mkdir(join(gitDir, "objects"), { recursive: true });
  await mkdir(join(gitDir, "refs"));
  await Bun.write(join(gitDir, "HEAD"), `ref: refs/heads/${branch}\n`);
  const format =
    objectFormat === "sha1"
      ? "[core]\n\trepositoryFormatVersion = 0\n"
      : `[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = ${objectFormat}\n`;
  await Bun.write(join(gitDir, "config"), format + repositoryConfig);
}

/** A part of the input of `git fast-import`, whose manual describes the format. */
type ImportPart = string | Uint8Array;

const identity = "Tests <tests@example.com> now";

// Git parses JSON's escapes, except those of control characters.
const quoted = (path: string) => JSON.stringify(path);

const encoded = (text: string, { encoding }: CommitOptions): ImportPart =>
  encoding ? Buffer.from(text, encoding) : text;

const data = (content: string | Uint8Array): ImportPart[] => [
  `data ${Buffer.byteLength(content)}\n`,
  content,
  "\n",
];

const addFile = (mode: string, path: ImportPart, content: ImportPart): ImportPart[] => [
  `M ${mode} inline `,
  path,
  "\n",
  ...data(content),
];

const modeOf = (path: string) => (isExecutable(path) ? "100755" : "100644");

/** The parent of the next commit on a branch, and the parent's files that the commit does not have. */
async function parentOf(repository: Repository, options: CommitOptions): Promise<ImportPart[]> {
  const { gitDir, defaultBranch } = repository;
  const { branch = defaultBranch, remove = [] } = options;
  const tip =
    (await git(gitDir, "for-each-ref", "--format=%(objectname)", `refs/heads/${branch}`)) ||
    (await git(gitDir, "rev-parse", `refs/heads/${defaultBranch}`));
  const entries = (await git(gitDir, "ls-tree", "-r", "-z", tip)).split("\0");
  for (const path of remove)
    if (!entries.some((entry) => entry.endsWith(`\t${path}`)))
      throw new Error(`${branch} has no file ${path}`);
  const gitlinks = entries.flatMap((entry) => /^160000 \w+ \w+\t(.*)$/s.exec(entry)?.[1] ?? []);
  return [`from ${tip}\n`, ...[...remove, ...gitlinks].map((path) => `D ${quoted(path)}\n`)];
}

/** Adds a commit to a branch, and returns the commit's SHA. */
async function importCommit(
  repository: Repository,
  parent: readonly ImportPart[],
  files: RepositoryFiles,
  options: CommitOptions,
): Promise<string> {
  const { branch = repository.defaultBranch, message = "A commit", tags = [] } = options;
  const { annotatedTags = [], gitlinks = {}, symlinks = {} } = options;
  const named = (path: string) => encoded(quoted(path), options);
  const parts = [
    `commit refs/heads/${branch}\nmark :1\ncommitter ${identity}\n`,
    ...data(`${message}\n`),
    ...parent,
    ...Object.entries(files).flatMap(([path, content]) => addFile(modeOf(path), named(path), content)),
    ...Object.entries(symlinks).flatMap(([path, target]) =>
      addFile("120000", named(path), encoded(target, options)),
    ),
    ...Object.entries(gitlinks).flatMap(([path, sha]) => [`M 160000 ${sha} `, named(path), "\n"]),
    "\nget-mark :1\n",
    ...tags.map((tag) => `reset refs/tags/${tag}\nfrom :1\n`),
    ...annotatedTags.flatMap((tag) => [`tag ${tag}\nfrom :1\ntagger ${identity}\n`, ...data("A tag\n")]),
  ];
  // Deltas are not worth their computing time.
  const command = ["git", "fast-import", "--quiet", "--date-format=now", "--depth=0"];
  const stdin = await new Blob(parts).bytes();
  const { stdout } = await run(command, { cwd: repository.gitDir, env: gitEnv, stdin });
  return stdout.trim();
}

interface CgiAnswer {
  status: number;
  headers: Headers;
  body: ReadableStream<Uint8Array>;
}

/** Reads the header block that a CGI program prints first; the body is passed on as it arrives. */
async function readCgi(output: ReadableStream<Uint8Array>): Promise<CgiAnswer> {
  const reader = output.getReader();
  let head = Buffer.alloc(0);
  let end = -1;
  while (end < 0) {
    const { value, done } = await reader.read();
    if (done) throw new Error("git http-backend ended without an answer");
    head = Buffer.concat([head, value]);
    end = head.indexOf("\r\n\r\n");
  }
  const headers = new Headers();
  for (const line of head.subarray(0, end).toString().split("\r\n")) {
    const colon = line.indexOf(":");
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const status = Number.parseInt(headers.get("status") ?? "200", 10);
  headers.delete("status");
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(head.subarray(end + 4)),
    async pull(controller) {
      const { value, done } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return { status, headers, body };
}

async function httpBackend(request: Request, root: string, path: string): Promise<Response> {
  const child = Bun.spawn(["git", "http-backend"], {
    env: {
      PATH: process.env.PATH,
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_CONFIG_SYSTEM: "/dev/null",
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: "1",
      REQUEST_METHOD: request.method,
      PATH_INFO: path,
      QUERY_STRING: new URL(request.url).search.slice(1),
      CONTENT_TYPE: request.headers.get("content-type") ?? "",
      HTTP_CONTENT_ENCODING: request.headers.get("content-encoding") ?? "",
      GIT_PROTOCOL: request.headers.get("git-protocol") ?? "",
      REMOTE_ADDR: "127.0.0.1",
    },
    // A clone's requests are small, and this server does not support pushes.
    stdin: await request.bytes(),
    stdout: "pipe",
    stderr: "ignore",
  });
  request.signal.addEventListener("abort", () => child.kill());
  const { status, headers, body } = await readCgi(child.stdout);
  return new Response(body, { status, headers });
}

function counted(response: Response, recorded: GitRequest): Response {
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      recorded.sentBytes += chunk.byteLength;
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body?.pipeThrough(count), response);
}

/** Of HTTP's Basic authentication. */
function loginOf(request: Request): { user?: string; password?: string } {
  const encoded = /^Basic (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (encoded === undefined) return {};
  const [, user, password] = /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, "base64").toString()) ?? [];
  return { user, password };
}

function access(login: RepositoryOptions["private"]): Pick<Repository, "token" | "user"> {
  return { token: login?.token, user: login?.user };
}

function mayRead({ token, user }: Repository, login: ReturnType<typeof loginOf>): boolean {
  const isUser = user === undefined || login.user === user;
  return token === undefined || (login.password === token && isUser);
}

const PACK_FOLLOWS = "000dpackfile\n";
const EMPTY_PACKET = "0005\x01";

/** The answer with empty packets before its pack. */
function withKeepAlive(response: Response, packets: number, pause: () => Promise<void>): Response {
  const insert = new TransformStream<Uint8Array, Uint8Array>({
    async transform(chunk, controller) {
      const start = Buffer.from(chunk).indexOf(PACK_FOLLOWS);
      const end = start < 0 ? 0 : start + PACK_FOLLOWS.length;
      controller.enqueue(chunk.subarray(0, end));
      for (let sent = 0; start >= 0 && sent < packets; sent++) {
        await pause();
        controller.enqueue(Buffer.from(EMPTY_PACKET));
      }
      controller.enqueue(chunk.subarray(end));
    },
  });
  return new Response(response.body?.pipeThrough(insert), response);
}

/** Serves repositories over HTTP with git's http-backend. */
export async function startGitServer({ tls }: GitServerOptions = {}): Promise<GitServer> {
  const dir = await makeTempDir("git");
  const root = join(dir.path, "bare");
  const repositories = new Map<string, Repository>();
  const requests: GitRequest[] = [];
  const failure: { count: number; status: number; headers?: Record<string, string> } = {
    count: 0,
    status: 500,
  };
  const interceptors = new Set<(request: GitRequest) => Response | undefined>();
  let keepAlive = { packets: 0, pause: async () => {} };
  const holds = new Holds<GitRequest>();
  const lfs = createLfsStore();

  function find(name: string): Repository {
    const repository = repositories.get(name);
    if (repository === undefined) throw new Error(`this server has no repository ${name}`);
    return repository;
  }

  async function answer(request: Request, recorded: GitRequest): Promise<Response> {
    await holds.pass(recorded);
    if (failure.count > 0) {
      failure.count -= 1;
      return new Response(null, failure);
    }
    for (const intercept of interceptors) {
      const intercepted = intercept(recorded);
      if (intercepted) return intercepted;
    }
    const { pathname } = new URL(request.url);
    const [, name = ""] =
      /^\/(.+?)(?:\.git)?\/(?:info\/refs|git-upload-pack|info\/lfs\/.*)$/.exec(pathname) ?? [];
    const repository = repositories.get(name);
    if (repository === undefined) return new Response("Repository not found\n", { status: 404 });
    if (!mayRead(repository, loginOf(request))) {
      const headers = { "WWW-Authenticate": 'Basic realm="tests"' };
      return new Response("Authentication required\n", { status: 401, headers });
    }
    const lfsAnswer = await lfs.answer(request, pathname, baseUrl);
    if (lfsAnswer) return lfsAnswer;
    // Requested with or without the suffix, as on hosting services.
    const service = pathname.replace(/^.*\/(info\/refs|git-upload-pack)$/, "$1");
    const served = await httpBackend(request, root, `/${name}.git/${service}`);
    return keepAlive.packets > 0 ? withKeepAlive(served, keepAlive.packets, keepAlive.pause) : served;
  }

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: await freePort(),
    idleTimeout: 0,
    ...(tls && { tls: { cert: Bun.file(tls.certPath), key: Bun.file(tls.keyPath) } }),
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const recorded: GitRequest = {
        method: request.method,
        path: `${pathname}${search}`,
        hadAuthorization: request.headers.has("authorization"),
        user: loginOf(request).user,
        status: undefined,
        sentBytes: 0,
      };
      requests.push(recorded);
      const response = await answer(request, recorded);
      recorded.status = response.status;
      return counted(response, recorded);
    },
  });
  const host = `127.0.0.1:${server.port}`;
  const baseUrl = `${tls ? "https" : "http"}://${host}`;

  return {
    baseUrl,
    host,
    requests,
    lfs,
    async createRepository(name, files, options = {}) {
      const { branch: defaultBranch = "main", tags } = options;
      const gitDir = join(root, `${name}.git`);
      const repository: Repository = { gitDir, defaultBranch, ...access(options.private) };
      await initBare(gitDir, defaultBranch, options.objectFormat);
      // The name makes the SHA differ from that of another repository with the same files.
      const message = `The first commit of ${name}`;
      const sha = await importCommit(repository, [], files, { message, tags });
      repositories.set(name, repository);
      return sha;
    },
    async importRepository(name, { pack, refs, objectFormat }) {
      const gitDir = join(root, `${name}.git`);
      await initBare(gitDir, "main", objectFormat);
      const stdin = new Uint8Array(pack);
      await run(["git", "index-pack", "--stdin"], { cwd: gitDir, env: gitEnv, stdin });
      const lines = Object.entries(refs).map(([ref, id]) => `${id} ${ref}\n`);
      await Bun.write(join(gitDir, "packed-refs"), lines.sort().join(""));
      repositories.set(name, { gitDir, defaultBranch: "main", token: undefined, user: undefined });
    },
    async commit(name, files, options = {}) {
      const repository = find(name);
      return importCommit(repository, await parentOf(repository, options), files, options);
    },
    async resetBranch(name, branch, sha) {
      await git(find(name).gitDir, "update-ref", `refs/heads/${branch}`, sha);
    },
    git: (name, ...args) => git(find(name).gitDir, ...args),
    makePrivate(name, token) {
      Object.assign(find(name), { token, user: undefined });
    },
    removeRepository(name) {
      rmSync(find(name).gitDir, { recursive: true });
      repositories.delete(name);
    },
    async detachHead(name) {
      const { gitDir } = find(name);
      await git(gitDir, "update-ref", "--no-deref", "HEAD", await git(gitDir, "rev-parse", "HEAD"));
    },
    failNext(count, status, headers) {
      Object.assign(failure, { count, status, headers });
    },
    intercept(answer) {
      interceptors.add(answer);
      return () => void interceptors.delete(answer);
    },
    keepAlive(packets, pause) {
      keepAlive = { packets, pause };
    },
    hold: (matches) => holds.add(matches),
    async stop() {
      await server.stop(true);
      await dir.remove();
    },
  };
}

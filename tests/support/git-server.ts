import { mkdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "./free-port.ts";
import { type HeldRequests, Holds } from "./held-requests.ts";
import { createLfsStore, type LfsStore } from "./lfs-endpoint.ts";
import { run } from "./processes.ts";
import type { RepositoryFiles } from "./sample-repository.ts";
import { makeTempDir } from "./temp-dir.ts";
import { writeFiles } from "./write-files.ts";

export interface GitServerOptions {
  tls?: { certPath: string; keyPath: string };
}

export interface RepositoryOptions {
  branch?: string;
  /** All at the first commit. */
  tags?: readonly string[];
  /** Only who gives this token, as the password of whatever user, gets in. */
  private?: { token: string };
}

export interface CommitOptions {
  branch?: string;
  message?: string;
  tags?: readonly string[];
  /** Each has an object of its own. */
  annotatedTags?: readonly string[];
  /** Files to take away. */
  remove?: readonly string[];
  /** What they lead to, by their paths. */
  symlinks?: Readonly<Record<string, string>>;
  /** Commits of submodules, by their paths; for this commit alone. */
  gitlinks?: Readonly<Record<string, string>>;
}

export interface GitRequest {
  method: string;
  /** With the query. */
  path: string;
  hadAuthorization: boolean;
  status: number | undefined;
  /** Of the answer's body, so far. */
  sentBytes: number;
}

export interface GitServer {
  readonly baseUrl: string;
  readonly host: string;
  readonly requests: readonly GitRequest[];
  readonly lfs: LfsStore;
  /** Creates "owner/name" with one commit, and gives that commit's SHA. */
  createRepository(name: string, files: RepositoryFiles, options?: RepositoryOptions): Promise<string>;
  /** Adds a commit with these files on top of the others. A branch that does not exist starts at the first one's tip. */
  commit(name: string, files: RepositoryFiles, options?: CommitOptions): Promise<string>;
  /** Moves a branch back, or elsewhere: what is cut off that way is in no branch's history any more. */
  resetBranch(name: string, branch: string, sha: string): Promise<void>;
  /** From now on only who gives this token gets in, or everybody. */
  makePrivate(name: string, token: string | undefined): void;
  /** As if it had never been there. */
  removeRepository(name: string): void;
  /** The repository's HEAD names a commit from now on, and no branch. */
  detachHead(name: string): Promise<void>;
  /** The next so many requests are answered with this status, such as 503. */
  failNext(count: number, status: number): void;
  /** Keeps all these requests waiting, as a server that hangs does. */
  hold(matches?: (request: GitRequest) => boolean): HeldRequests<GitRequest>;
  stop(): Promise<void>;
}

interface Repository {
  gitDir: string;
  workDir: string;
  defaultBranch: string;
  token: string | undefined;
}

// Nothing of the machine's own settings may change what the tests' repositories are like.
const gitEnv = {
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_SYSTEM: "/dev/null",
  GIT_AUTHOR_NAME: "Tests",
  GIT_AUTHOR_EMAIL: "tests@example.com",
  GIT_COMMITTER_NAME: "Tests",
  GIT_COMMITTER_EMAIL: "tests@example.com",
  GIT_DIR: undefined,
  GIT_WORK_TREE: undefined,
};

async function git(cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(["git", ...args], { cwd, env: gitEnv });
  return stdout.trim();
}

async function commitFiles(
  repository: Repository,
  files: RepositoryFiles,
  options: CommitOptions,
): Promise<string> {
  const { workDir } = repository;
  const { branch = repository.defaultBranch, message = "A commit", tags = [], remove = [] } = options;
  const { annotatedTags = [], gitlinks = {}, symlinks = {} } = options;
  await writeFiles(workDir, files);
  for (const [path, target] of Object.entries(symlinks)) {
    await rm(join(workDir, path), { force: true });
    await symlink(target, join(workDir, path));
  }
  for (const path of remove) await git(workDir, "rm", "--quiet", path);
  await git(workDir, "add", "--all", "--force");
  for (const [path, sha] of Object.entries(gitlinks))
    await git(workDir, "update-index", "--add", "--cacheinfo", `160000,${sha},${path}`);
  await git(workDir, "commit", "--quiet", "--allow-empty", "-m", message);
  for (const tag of tags) await git(workDir, "tag", tag);
  for (const tag of annotatedTags) await git(workDir, "tag", "--annotate", "--message=A tag", tag);
  await git(workDir, "push", "--quiet", "--force", "origin", `HEAD:refs/heads/${branch}`, "--tags");
  // Unpacked repositories take several times as long to clone.
  await git(repository.gitDir, "gc", "--quiet");
  return git(workDir, "rev-parse", "HEAD");
}

async function switchTo(repository: Repository, branch: string): Promise<void> {
  const { workDir } = repository;
  await git(workDir, "fetch", "--quiet", "--prune", "origin");
  const known = await git(workDir, "branch", "--remotes", "--list", `origin/${branch}`);
  const start = known === "" ? repository.defaultBranch : branch;
  await git(workDir, "checkout", "--quiet", "--force", "-B", branch, `origin/${start}`);
  const entries = await git(workDir, "ls-files", "--stage", "-z");
  const gitlinks = entries.split("\0").flatMap((entry) => /^160000 \w+ 0\t(.*)$/s.exec(entry)?.[1] ?? []);
  for (const path of gitlinks) {
    await git(workDir, "update-index", "--force-remove", "--", path);
    await rm(join(workDir, path), { recursive: true });
  }
}

interface CgiAnswer {
  status: number;
  headers: Headers;
  body: ReadableStream<Uint8Array>;
}

/** Reads the header block that a CGI program prints first; what follows is passed on as it comes. */
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
    // A clone's requests are small; a push is none of this server's business.
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

function passwordOf(request: Request): string | undefined {
  const encoded = /^Basic (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (encoded === undefined) return undefined;
  return Buffer.from(encoded, "base64")
    .toString()
    .replace(/^[^:]*:/, "");
}

/** Serves repositories over HTTP with git's own program for it. */
export async function startGitServer({ tls }: GitServerOptions = {}): Promise<GitServer> {
  const dir = await makeTempDir("git");
  const root = join(dir.path, "bare");
  const repositories = new Map<string, Repository>();
  const requests: GitRequest[] = [];
  const failure = { count: 0, status: 500 };
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
      return new Response(null, { status: failure.status });
    }
    const { pathname } = new URL(request.url);
    const [, name = ""] =
      /^\/(.+?)(?:\.git)?\/(?:info\/refs|git-upload-pack|info\/lfs\/.*)$/.exec(pathname) ?? [];
    const repository = repositories.get(name);
    if (repository === undefined) return new Response("Repository not found\n", { status: 404 });
    if (repository.token !== undefined && passwordOf(request) !== repository.token) {
      const headers = { "WWW-Authenticate": 'Basic realm="tests"' };
      return new Response("Authentication required\n", { status: 401, headers });
    }
    const lfsAnswer = await lfs.answer(request, pathname, baseUrl);
    if (lfsAnswer) return lfsAnswer;
    // Asked for with or without the suffix, as on hosting services.
    const service = pathname.replace(/^.*\/(info\/refs|git-upload-pack)$/, "$1");
    return httpBackend(request, root, `/${name}.git/${service}`);
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
      const repository: Repository = {
        gitDir: join(root, `${name}.git`),
        workDir: join(dir.path, "work", name),
        defaultBranch,
        token: options.private?.token,
      };
      await mkdir(repository.workDir, { recursive: true });
      await git(dir.path, "init", "--quiet", "--bare", "--initial-branch", defaultBranch, repository.gitDir);
      // What hosting services allow, too: shallow fetches of a commit by its SHA.
      await git(repository.gitDir, "config", "uploadpack.allowAnySHA1InWant", "true");
      await git(repository.gitDir, "config", "uploadpack.allowFilter", "true");
      await git(repository.workDir, "init", "--quiet", "--initial-branch", defaultBranch);
      await git(repository.workDir, "remote", "add", "origin", repository.gitDir);
      const sha = await commitFiles(repository, files, { message: "The first commit", tags });
      repositories.set(name, repository);
      return sha;
    },
    async commit(name, files, options = {}) {
      const repository = find(name);
      await switchTo(repository, options.branch ?? repository.defaultBranch);
      return commitFiles(repository, files, options);
    },
    async resetBranch(name, branch, sha) {
      await git(find(name).gitDir, "update-ref", `refs/heads/${branch}`, sha);
    },
    makePrivate(name, token) {
      find(name).token = token;
    },
    removeRepository: (name) => void repositories.delete(name),
    async detachHead(name) {
      const { gitDir } = find(name);
      await git(gitDir, "update-ref", "--no-deref", "HEAD", await git(gitDir, "rev-parse", "HEAD"));
    },
    failNext(count, status) {
      Object.assign(failure, { count, status });
    },
    hold: (matches) => holds.add(matches),
    async stop() {
      await server.stop(true);
      await dir.remove();
    },
  };
}

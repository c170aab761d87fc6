/**
 * Git LFS: replaces the pointers that git has checked out by their files, with the LFS batch API and its `basic`
 * transfer. The git-lfs program would download from any host that the server names; here each host is checked.
 */
import { chmod, lstat, rename } from "node:fs/promises";
import { join } from "node:path";
import { type GitSettings, isAllowedUrl } from "../../shared/repository-url.ts";
import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";
import { retryInPlace } from "../job/retry.ts";
import { fileBytes } from "./budget.ts";
import { mentionsLfs, type Pointer, pointersIn } from "./lfs-pointers.ts";
import type { GitAccess } from "./remote.ts";
import { sendRequest } from "./request.ts";
import type { Superproject } from "./submodules.ts";

export interface LfsContext {
  readonly access: GitAccess;
}

interface Download {
  readonly href: string;
  readonly header?: Readonly<Record<string, string>>;
}

interface BatchResponse {
  readonly objects?: readonly {
    readonly oid: string;
    readonly error?: { readonly code: number; readonly message: string };
    readonly actions?: { readonly download?: Download };
  }[];
}

const BATCH_SIZE = 100;
const MAX_REDIRECTS = 5;
const MEDIA_TYPE = "application/vnd.git-lfs+json";

/** Returns the disk space of the files: 0 when no file is in LFS. */
export async function fetchLfsFiles(filled: Superproject, context: LfsContext): Promise<number> {
  if (!(await mentionsLfs(filled))) return 0;
  const pointers = await pointersIn(filled);
  if (pointers.length === 0) return 0;
  const files = new LfsFiles(filled, context);
  const endpoint = await files.endpoint();
  context.access.log(`fetching ${pointers.length} Git LFS files from ${endpoint}`);
  for (let from = 0; from < pointers.length; from += BATCH_SIZE)
    await files.fetch(endpoint, pointers.slice(from, from + BATCH_SIZE));
  if (files.restored > 0) context.access.log(`${files.restored} of them restored from the cached checkout`);
  return pointers.reduce((sum, { size }) => sum + fileBytes(size), 0);
}

class LfsFiles {
  /** Number of files restored from the cached checkout. */
  restored = 0;
  readonly #filled: Superproject;
  readonly #context: LfsContext;

  constructor(filled: Superproject, context: LfsContext) {
    this.#filled = filled;
    this.#context = context;
  }

  /** The repository's .lfsconfig can set the endpoint. */
  async endpoint(): Promise<string> {
    const { copy, commit, url } = this.#filled;
    // Without includes: they could name any file of this machine.
    const args = ["config", "--no-includes", `--blob=${commit}:.lfsconfig`, "lfs.url"];
    const { stdoutTail } = await copy.remote.git.local(args, copy.path);
    const [endpoint = `${url.replace(/\.git$/, "")}.git/info/lfs`] = stdoutTail;
    this.#checkHost(endpoint.replace(/\/+$/, ""), this.#context.access.allowed);
    return endpoint.replace(/\/+$/, "");
  }

  async fetch(endpoint: string, pointers: readonly Pointer[]): Promise<void> {
    const { budget, retry: policy, log } = this.#context.access;
    for (const { size } of pointers) budget.spend(size);
    const missing = new Set(pointers);
    const attempt = async () => {
      const downloads = await this.#batch(endpoint, [...missing]);
      for (const pointer of missing) {
        await this.#get(pointer, downloads.get(pointer.oid));
        missing.delete(pointer);
      }
    };
    await retryInPlace({ policy, signal: budget.signal, log, attempt });
  }

  async #batch(endpoint: string, pointers: readonly Pointer[]): Promise<Map<string, Download>> {
    const objects = pointers.map(({ oid, size }) => ({ oid, size }));
    const response = await this.#request(`${endpoint}/objects/batch`, {
      method: "POST",
      headers: { Accept: MEDIA_TYPE, "Content-Type": MEDIA_TYPE },
      body: JSON.stringify({ operation: "download", transfers: ["basic"], objects }),
    });
    const body = (await response.json()) as BatchResponse;
    const downloads = new Map<string, Download>();
    for (const { oid, error, actions } of body.objects ?? []) {
      const path = pointers.find((pointer) => pointer.oid === oid)?.path;
      if (error)
        throw failed(
          `${path} is not available from Git LFS: ${error.message} (${error.code})`,
          error.code >= 500,
        );
      if (actions?.download) downloads.set(oid, actions.download);
    }
    return downloads;
  }

  async #get(pointer: Pointer, download: Download | undefined): Promise<void> {
    if (!download) throw failed(`the Git LFS server returned no download URL for ${pointer.path}`);
    this.#checkHost(download.href, this.#context.access.allowed);
    if (await this.#restoreCached(pointer)) this.restored += 1;
    else await this.#download(pointer, download);
  }

  /** Called after the server has offered the file to this job. False when the cached file has other contents. */
  async #restoreCached({ path, oid, size }: Pointer): Promise<boolean> {
    const cached = this.#filled.cached.lfsFiles.get(path);
    if (cached === undefined || Bun.file(cached).size !== size) return false;
    const hash = new Bun.CryptoHasher("sha256");
    for await (const chunk of Bun.file(cached).stream()) {
      this.#context.access.budget.signal.throwIfAborted();
      hash.update(chunk);
    }
    if (hash.digest("hex") !== oid) return false;
    await this.#replacePointer(cached, path);
    return true;
  }

  async #download(pointer: Pointer, download: Download): Promise<void> {
    const response = await this.#request(download.href, { headers: download.header ?? {} });
    const { copy } = this.#filled;
    const temporary = join(copy.gitFolder, "lfs-arriving");
    const hash = new Bun.CryptoHasher("sha256");
    let receivedBytes = 0;
    const sink = Bun.file(temporary).writer();
    try {
      for await (const chunk of response.body ?? []) {
        receivedBytes += chunk.byteLength;
        if (receivedBytes > pointer.size) break;
        hash.update(chunk);
        sink.write(chunk);
        await sink.flush();
      }
      await sink.end();
    } catch (error) {
      throw this.#transferFailed(pointer, error);
    }
    if (hash.digest("hex") !== pointer.oid)
      throw failed(`the Git LFS file for ${pointer.path} does not match its pointer's checksum`, true);
    await this.#replacePointer(temporary, pointer.path);
  }

  async #replacePointer(temporary: string, path: string): Promise<void> {
    const target = join(this.#filled.copy.path, path);
    await chmod(temporary, (await lstat(target)).mode);
    await rename(temporary, target);
  }

  /** Follows redirects, without the headers that were only for the first host. */
  async #request(url: string, options: { method?: string; headers: Record<string, string>; body?: string }) {
    const { environment, allowed, budget } = this.#context.access;
    let current = url;
    let headers = { ...options.headers, ...this.#authorization(url, options.headers) };
    for (let followed = 0; followed <= MAX_REDIRECTS; followed++) {
      this.#checkHost(current, allowed);
      const request = { ...options, headers, environment, signal: budget.signal };
      const response = await sendRequest(current, request).catch((error: unknown) => {
        budget.signal.throwIfAborted();
        throw failed(`Git LFS request to ${new URL(current).host} failed: ${error}`, true, error);
      });
      const location =
        response.status >= 300 && response.status < 400 ? response.headers.get("location") : null;
      if (location === null) return checkStatus(response, current);
      await response.body?.cancel();
      current = URL.parse(location, current)?.href ?? "";
      headers = { ...(headers.Accept !== undefined && { Accept: headers.Accept }) };
    }
    throw failed(`Git LFS request to ${new URL(url).host} was redirected more than ${MAX_REDIRECTS} times`);
  }

  #authorization(url: string, headers: Readonly<Record<string, string>>): Record<string, string> {
    const isGiven = Object.keys(headers).some((name) => name.toLowerCase() === "authorization");
    const authorization = isGiven ? undefined : this.#context.access.credentials.forLfs(url);
    return authorization === undefined ? {} : { Authorization: authorization };
  }

  #checkHost(url: string, allowed: GitSettings): void {
    if (isAllowedUrl(url, allowed)) return;
    const origin = URL.parse(url)?.origin ?? url;
    throw failed(`Git LFS uses ${origin}, which is not one of the hosts in BLACKTREE_GIT_ALLOWED_HOSTS`);
  }

  #transferFailed(pointer: Pointer, error: unknown): unknown {
    const { signal } = this.#context.access.budget;
    if (signal.aborted) return signal.reason;
    const message = `failed to download ${pointer.path} from Git LFS: ${error}`;
    return saysDiskFull(message) ? diskFull("clone", message, error) : failed(message, true, error);
  }
}

async function checkStatus(response: Response, url: string): Promise<Response> {
  if (response.ok) return response;
  await response.body?.cancel();
  const { status } = response;
  const { host } = new URL(url);
  if (status === 401 || status === 403) {
    const message = `${host} denies access to the repository's Git LFS files (${status})`;
    throw new StepFailure({ code: "GIT_AUTH", step: "clone", message });
  }
  throw failed(
    `${host} answered ${status} for the repository's Git LFS files`,
    status >= 500 || status === 429,
  );
}

function failed(message: string, retryable = false, cause?: unknown): StepFailure {
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable, cause });
}

/**
 * Git LFS: replaces the pointers that git has checked out by their files, with the LFS batch API and its `basic`
 * transfer. The git-lfs program would download from any host that the server names; here each host is checked.
 */
import { chmod, copyFile, lstat, mkdir, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StepFailure } from "../job/failure.ts";
import { retryInPlace } from "../job/retry.ts";
import { fileBytes } from "./budget.ts";
import { type LfsObject, type Link, requestLinks } from "./lfs-batch.ts";
import { LfsDownload } from "./lfs-download.ts";
import { onFile, quoted } from "./lfs-failure.ts";
import { type LfsContext, LfsHttp } from "./lfs-http.ts";
import { encodePointer } from "./lfs-pointer.ts";
import { filesAssignedToLfs, type PointerFile } from "./lfs-pointers.ts";
import { lfsSettings } from "./lfs-settings.ts";
import { fileIn, type GitName, shownName } from "./names.ts";
import type { Superproject } from "./submodules.ts";

/** As git-lfs by default. */
const BATCH_SIZE = 100;
const DOWNLOADS_AT_ONCE = 8;
const MAX_NAMES_IN_LOG = 10;

/** Returns the disk space of the files; undefined when .gitattributes assigns no file to LFS. */
export async function fetchLfsFiles(filled: Superproject, context: LfsContext): Promise<number | undefined> {
  const { pointers, others } = await filesAssignedToLfs(filled);
  const { log } = context.access;
  if (others.length > 0) log(notPointers(others));
  if (pointers.length === 0) return others.length > 0 ? 0 : undefined;
  const { url, isWanted } = await lfsSettings(filled);
  const isLeft = ({ path, size }: PointerFile) => size > 0 && !isWanted(path);
  const [wanted, left] = [pointers.filter((pointer) => !isLeft(pointer)), pointers.filter(isLeft)];
  const files = new LfsFiles(filled, context, url);
  await files.leave(left);
  await files.fetch(wanted);
  return wanted.reduce((sum, { size }) => sum + fileBytes(size), 0);
}

/** An object of LFS, and the files that have it as their content. */
interface WantedObject extends LfsObject {
  readonly paths: readonly GitName[];
  readonly download: LfsDownload;
}

class LfsFiles {
  readonly #filled: Superproject;
  readonly #context: LfsContext;
  readonly #endpoint: string;
  readonly #http: LfsHttp;
  #restored = 0;

  constructor(filled: Superproject, context: LfsContext, endpoint: string) {
    this.#filled = filled;
    this.#context = context;
    this.#endpoint = endpoint;
    this.#http = new LfsHttp(context);
  }

  async fetch(files: readonly PointerFile[]): Promise<void> {
    const { log, budget } = this.#context.access;
    for (const { size } of files) budget.spend(size);
    budget.signal.throwIfAborted();
    const stored = files.filter(({ size }) => size > 0);
    for (const { path, size } of files)
      if (size === 0) await onFile(shownName(path), () => truncate(fileIn(this.#filled.copy.path, path)));
    if (stored.length === 0) return;
    refuseExtensions(stored);
    await mkdir(this.#context.aside, { recursive: true, mode: 0o700 });
    const { origin, pathname } = new URL(this.#endpoint);
    log(`fetching ${count(stored.length, "Git LFS file", "Git LFS files")} from ${origin}${pathname}`);
    const objects = this.#objectsOf(stored);
    for (let from = 0; from < objects.length; from += BATCH_SIZE)
      await this.#fetchBatch(objects.slice(from, from + BATCH_SIZE));
    if (this.#restored > 0) log(`${this.#restored} of them restored from the cached checkout`);
  }

  /** As git-lfs does, which writes these pointers in its own form. */
  async leave(files: readonly PointerFile[]): Promise<void> {
    if (files.length === 0) return;
    for (const pointer of files) {
      if (pointer.isCanonical) continue;
      const target = fileIn(this.#filled.copy.path, pointer.path);
      await onFile(shownName(pointer.path), () => writeFile(target, encodePointer(pointer)));
    }
    const stay = count(files.length, "file stays a Git LFS pointer", "files stay Git LFS pointers");
    const { log } = this.#context.access;
    log(`${stay}: .lfsconfig excludes them (lfs.fetchinclude, lfs.fetchexclude)`);
  }

  #objectsOf(files: readonly PointerFile[]): WantedObject[] {
    const byObject = Map.groupBy(files, ({ oid, size }) => `${oid}-${size}`);
    return [...byObject.entries()].map(([key, [first, ...more]]) => {
      if (first === undefined) throw new Error("a group has at least one element");
      const { oid, size } = first;
      const object = { oid, size, name: shownName(first.path) };
      const paths = [first, ...more].map(({ path }) => path);
      return { ...object, paths, download: new LfsDownload(object, join(this.#context.aside, `lfs-${key}`)) };
    });
  }

  /** Each try asks for new links: those of the last try may have ended. */
  async #fetchBatch(objects: readonly WantedObject[]): Promise<void> {
    const { budget, retry: policy, log } = this.#context.access;
    const missing = new Set(objects);
    let done = 0;
    await retryInPlace({
      policy,
      signal: budget.signal,
      timeLeftMs: () => budget.timeLeftMs(),
      hasProgressed: () => {
        const before = done;
        done = progressOf(objects, missing);
        return done > before;
      },
      log,
      attempt: async () => {
        while (missing.size > 0) await this.#tryBatch(missing);
      },
    });
  }

  /** Returns early when links have ended. */
  async #tryBatch(missing: Set<WantedObject>): Promise<void> {
    const { signal } = this.#context.access.budget;
    const links = await requestLinks(this.#http, this.#endpoint, [...missing], signal);
    const queue = [...missing];
    const [first] = queue;
    const transfers = new Transfers(signal);
    await transfers.run(DOWNLOADS_AT_ONCE, async () => {
      for (let object = queue.shift(); object && transfers.mayBegin; object = queue.shift()) {
        const link = links.get(object.oid);
        // The first one is tried anyway: a link that ends at once would otherwise be requested again and again.
        if (!link || (link.hasEnded() && object !== first)) return;
        await this.#place(object, link, transfers.signal);
        missing.delete(object);
      }
    });
  }

  /** Called after the server has offered the object to this job. */
  async #place(object: WantedObject, link: Link, signal: AbortSignal): Promise<void> {
    const paths = [];
    for (const path of object.paths) if (!(await this.#restoreCached(object, path))) paths.push(path);
    if (paths.length === 0) return;
    const file = await object.download.receive(this.#http, link, signal);
    for (const [index, path] of paths.entries()) {
      signal.throwIfAborted();
      const isLast = index === paths.length - 1;
      await onFile(shownName(path), async () => {
        const content = isLast ? file : `${file}-copy`;
        if (!isLast) await copyFile(file, content);
        await this.#replacePointer(content, path);
      });
    }
  }

  /** False when the cached file has other contents. */
  async #restoreCached({ oid, size }: WantedObject, path: GitName): Promise<boolean> {
    const cached = this.#filled.cached.lfsFiles.get(path);
    if (cached === undefined || Bun.file(cached).size !== size) return false;
    const hash = new Bun.CryptoHasher("sha256");
    for await (const chunk of Bun.file(cached).stream()) {
      this.#context.access.budget.signal.throwIfAborted();
      hash.update(chunk);
    }
    if (hash.digest("hex") !== oid) return false;
    await onFile(shownName(path), () => this.#replacePointer(cached, path));
    this.#restored += 1;
    return true;
  }

  async #replacePointer(content: string, path: GitName): Promise<void> {
    const target = fileIn(this.#filled.copy.path, path);
    await chmod(content, (await lstat(target)).mode);
    await rename(content, target);
  }
}

/** Transfers that run at the same time. After a failure none begins, and those that have begun continue. */
class Transfers {
  /** Aborts with the clone, and after a failure that is final for the job. */
  readonly signal: AbortSignal;
  readonly #final = new AbortController();
  #failure: unknown;

  constructor(signal: AbortSignal) {
    this.signal = AbortSignal.any([signal, this.#final.signal]);
  }

  get mayBegin(): boolean {
    return this.#failure === undefined;
  }

  /** @throws the first failure, or the first final one, when nothing runs any more. */
  async run(atOnce: number, transfer: () => Promise<void>): Promise<void> {
    const failing = (error: unknown) => this.#fail(error);
    await Promise.all(Array.from({ length: atOnce }, () => transfer().catch(failing)));
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(error: unknown): void {
    if (this.#final.signal.aborted) return;
    const isFinal = !(error instanceof StepFailure && error.failure.retryable);
    if (isFinal || this.#failure === undefined) this.#failure = error;
    if (isFinal) this.#final.abort(error);
  }
}

/** Received bytes and finished objects. */
function progressOf(objects: readonly WantedObject[], missing: ReadonlySet<WantedObject>): number {
  return objects.reduce(
    (sum, { download }) => sum + download.totalReceivedBytes,
    objects.length - missing.size,
  );
}

function notPointers(paths: readonly GitName[]): string {
  const names = paths.slice(0, MAX_NAMES_IN_LOG).map(shownName).join(", ");
  const more = paths.length > MAX_NAMES_IN_LOG ? `, and ${paths.length - MAX_NAMES_IN_LOG} more` : "";
  const files = count(
    paths.length,
    "file is not a Git LFS pointer although .gitattributes says",
    "files are not Git LFS pointers although .gitattributes says",
  );
  return `WARNING: ${files} filter=lfs; built as committed: ${names}${more}`;
}

function count(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? one : many}`;
}

/** An extension is a program of the machine that committed the file. @throws StepFailure */
function refuseExtensions(files: readonly PointerFile[]): void {
  const file = files.find(({ extensions }) => extensions.length > 0);
  if (!file) return;
  const message = `${shownName(file.path)} uses the Git LFS extension ${file.extensions.map(({ name }) => quoted(name)).join(", ")}; extensions are not supported`;
  throw new StepFailure({ code: "UNSUPPORTED", step: "clone", message });
}

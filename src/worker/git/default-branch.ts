/**
 * Which branch the repository's HEAD names on its server. It is asked for beside the clone, and whatever becomes of it,
 * nothing fails for it.
 */
import { type GitAccess, GitRemote, type RemoteRepository } from "./remote.ts";

export type DefaultBranch = { readonly name: string } | { readonly unknown: string };

const TIMEOUT_MS = 10_000;
/** Git would also name another ref's target whose name ends so. */
const TARGET = /^ref: refs\/heads\/(.+)\tHEAD$/;

export class DefaultBranchQuery {
  readonly answer: Promise<DefaultBranch>;
  readonly #cancelled = new AbortController();

  constructor(repository: RemoteRepository, access: GitAccess, cwd: string) {
    // What git prints is the answer alone; the job's log is told what became of it.
    this.answer = this.#ask(new GitRemote(repository, { ...access, log: () => {} }), cwd);
  }

  /** Once nobody waits for the answer. */
  async end(): Promise<void> {
    this.#cancelled.abort(new Error("nobody waits for it"));
    await this.answer;
  }

  async #ask(remote: GitRemote, cwd: string): Promise<DefaultBranch> {
    const args = (url: string) => ["ls-remote", "--symref", "--", url, "HEAD"];
    const signal = AbortSignal.any([this.#cancelled.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      const end = await remote.tryOnce({ args, cwd, signal });
      return end.exitCode === 0 ? named(end.stdoutTail) : { unknown: remote.failure(end).message };
    } catch (error) {
      return { unknown: error instanceof Error ? error.message : String(error) };
    }
  }
}

function named(answer: readonly string[]): DefaultBranch {
  const [name] = answer.flatMap((line) => TARGET.exec(line)?.[1] ?? []);
  return name === undefined ? { unknown: "the server's HEAD names no branch" } : { name };
}

/** Asks the server for the repository's default branch, in parallel with the clone. A failure never fails the job. */
import { type GitAccess, GitRemote, type RemoteRepository } from "./remote.ts";

export type DefaultBranch = { readonly name: string } | { readonly unknown: string };

const TIMEOUT_MS = 10_000;
/** The pattern HEAD also matches other symbolic refs whose names end in /HEAD. */
const TARGET = /^ref: refs\/heads\/(.+)\tHEAD$/;

export class DefaultBranchQuery {
  readonly answer: Promise<DefaultBranch>;
  readonly #cancelled = new AbortController();

  constructor(repository: RemoteRepository, access: GitAccess, cwd: string) {
    // Git prints only the answer; the caller logs a failure.
    this.answer = this.#ask(new GitRemote(repository, { ...access, log: () => {} }), cwd);
  }

  /** Cancels the query when its answer is not needed any more. */
  async end(): Promise<void> {
    this.#cancelled.abort(new Error("the run has ended"));
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
  return name === undefined ? { unknown: "the server's HEAD does not name a branch" } : { name };
}

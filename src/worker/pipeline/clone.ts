import type { ChildEnvironment } from "./child-environment.ts";
import { type GitCommands, gitCommands } from "./git-command.ts";
import { gitFailure } from "./git-failure.ts";
import { inPlace, type RetryPolicy } from "./in-place-retry.ts";
import type { PipelineJob } from "./pipeline-job.ts";
import { StepFailure } from "./step-failure.ts";
import type { Workspace } from "./workspace.ts";

export interface CloneRequest {
  readonly job: Pick<PipelineJob, "branch" | "commit" | "gitToken">;
  readonly repositoryUrl: string;
  readonly workspace: Pick<Workspace, "path" | "checkout" | "history">;
  readonly environment: ChildEnvironment;
  readonly retry: RetryPolicy;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Fills the checkout folder with the commit to build, and says which one that is. */
export async function clone(request: CloneRequest): Promise<string> {
  const { job, repositoryUrl, signal, log } = request;
  const git = gitCommands({
    environment: request.environment,
    repositoryUrl,
    token: job.gitToken,
    signal,
    onLine: log,
  });
  log(`cloning ${repositoryUrl}, ${job.branch}`);
  const checkout = new Checkout(request, git);
  const tip = await checkout.cloneTip();
  const commit = job.commit?.toLowerCase() ?? tip;
  if (commit === tip) return tip;
  await checkout.checkInHistory(commit);
  await checkout.switchTo(commit);
  return commit;
}

class Checkout {
  readonly #request: CloneRequest;
  readonly #git: GitCommands;

  constructor(request: CloneRequest, git: GitCommands) {
    this.#request = request;
    this.#git = git;
  }

  /** One connection. Git prefers a branch to a tag of the same name. */
  async cloneTip(): Promise<string> {
    const { checkout } = this.#request.workspace;
    await this.#network(["clone", "--depth=1", ...this.#cloneArguments(checkout)]);
    return (await this.#local(checkout).revparse(["HEAD"])).trim();
  }

  /** Fetches commits without their files where the server can; one that cannot sends all, which is as good. */
  async checkInHistory(commit: string): Promise<void> {
    const { branch } = this.#request.job;
    const { history } = this.#request.workspace;
    this.#request.log(`looking for ${commit} in the history of ${branch}`);
    await this.#network(["clone", "--bare", "--filter=tree:0", ...this.#cloneArguments(history)]);
    if (await this.#isAncestorOfHead(history, commit)) return;
    throw new StepFailure({
      code: "REF_NOT_FOUND",
      step: "clone",
      message: `commit ${commit} is not in the history of '${branch}' of ${this.#request.repositoryUrl}`,
    });
  }

  async switchTo(commit: string): Promise<void> {
    const { checkout } = this.#request.workspace;
    const fetch = ["fetch", "--quiet", "--no-tags"];
    const alone = await this.#git.network([...fetch, "--depth=1", "origin", commit], checkout);
    // A server need not serve a commit that no branch or tag names; it always serves whole histories.
    if (alone.exitCode !== 0) await this.#network([...fetch, "--unshallow", "origin"], checkout);
    await this.#local(checkout).raw(["checkout", "--quiet", "--detach", commit]);
  }

  #cloneArguments(into: string): string[] {
    const { job, repositoryUrl } = this.#request;
    return [
      "--quiet",
      "--single-branch",
      "--no-tags",
      // No template: hooks and settings of the host have no place in a checkout.
      "--template=",
      `--branch=${job.branch}`,
      "--",
      repositoryUrl,
      into,
    ];
  }

  async #isAncestorOfHead(repository: string, commit: string): Promise<boolean> {
    try {
      const base = await this.#local(repository).raw(["merge-base", commit, "HEAD"]);
      return base.trim() === commit;
    } catch (error) {
      this.#request.signal.throwIfAborted();
      if (error instanceof Error && /Not a valid (commit|object) name/.test(error.message)) return false;
      throw error;
    }
  }

  async #network(args: readonly string[], cwd = this.#request.workspace.path): Promise<void> {
    const { retry: policy, signal, log } = this.#request;
    // A clone that fails takes its folder away, so it can be tried again.
    await inPlace({ policy, signal, log, attempt: () => this.#networkOnce(args, cwd) });
  }

  async #networkOnce(args: readonly string[], cwd: string): Promise<void> {
    const { exitCode, stderrTail } = await this.#git.network(args, cwd);
    if (exitCode === 0) return;
    const { repositoryUrl, job } = this.#request;
    const withToken = job.gitToken !== undefined;
    throw gitFailure({ repositoryUrl, branch: job.branch, withToken }, stderrTail);
  }

  #local(cwd: string) {
    return this.#git.local(cwd);
  }
}

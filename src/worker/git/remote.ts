import type { GitSettings } from "../../shared/repository-url.ts";
import type { StepFailure } from "../job/failure.ts";
import { inPlace, type RetryPolicy } from "../job/retry.ts";
import { removeTree } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { GroupEnd } from "../process/process-group.ts";
import type { CloneBudget } from "./budget.ts";
import { type GitCommands, gitCommands, type NetworkOptions } from "./command.ts";
import { gitFailure, isRedirect } from "./failure.ts";
import { redirectTarget } from "./redirects.ts";

/** What talking to any git server takes, whichever repository it is about. */
export interface GitAccess {
  readonly allowed: GitSettings;
  readonly environment: ChildEnvironment;
  readonly retry: RetryPolicy;
  readonly budget: CloneBudget;
  readonly log: (line: string) => void;
}

export interface RemoteRepository {
  readonly repositoryUrl: string;
  /** As a failure should name what was looked for. */
  readonly branch: string;
  readonly token: string | undefined;
}

export interface RemoteCommand extends NetworkOptions {
  readonly args: (url: string) => readonly string[];
  readonly cwd: string;
  /** Git's own folder, when the command fills it. */
  readonly gitFolder?: string;
  /** A folder that the command makes; one that is killed leaves it half made. */
  readonly into?: string;
}

/** One repository on its server. */
export class GitRemote {
  readonly git: GitCommands;
  readonly #repository: RemoteRepository;
  readonly #access: GitAccess;
  #url: string;

  constructor(repository: RemoteRepository, access: GitAccess) {
    const { repositoryUrl, token } = repository;
    const { environment, budget, log } = access;
    this.#repository = repository;
    this.#access = access;
    this.#url = repositoryUrl;
    this.git = gitCommands({ environment, repositoryUrl, token, signal: budget.signal, onLine: log });
  }

  /** Tries again what may pass. @throws StepFailure saying what the server's refusal means. */
  async run(command: RemoteCommand): Promise<void> {
    const { retry: policy, budget, log } = this.#access;
    const attempt = async () => {
      if (command.into !== undefined) await removeTree(command.into);
      const end = await this.tryOnce(command);
      if (end.exitCode !== 0) throw this.failure(end);
    };
    await inPlace({ policy, signal: budget.signal, log, attempt });
  }

  /** Gives the command's end, whatever it is. */
  async tryOnce(command: RemoteCommand): Promise<GroupEnd> {
    const end = await this.#once(command);
    if (end.exitCode === 0 || this.#repository.token !== undefined || !isRedirect(end.stderrTail)) return end;
    const { environment, allowed, budget, log } = this.#access;
    const target = await redirectTarget(this.#url, { environment, allowed, signal: budget.signal });
    if (target === undefined || target === this.#url) return end;
    log(`${this.#url} redirects to ${target}`);
    this.#url = target;
    return this.#once(command);
  }

  failure({ stderrTail }: GroupEnd): StepFailure {
    const { repositoryUrl, branch, token } = this.#repository;
    return gitFailure({ repositoryUrl, branch, withToken: token !== undefined }, stderrTail);
  }

  #once({ args, cwd, gitFolder, ...options }: RemoteCommand): Promise<GroupEnd> {
    const command = () => this.git.network(args(this.#url), cwd, options);
    return gitFolder === undefined ? command() : this.#access.budget.watching(gitFolder, command);
  }
}

import type { GitSettings } from "../../shared/repository-url.ts";
import type { StepFailure } from "../job/failure.ts";
import { type RetryPolicy, retryInPlace } from "../job/retry.ts";
import { removeTree } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { GroupEnd } from "../process/process-group.ts";
import type { CloneBudget } from "./budget.ts";
import { type GitCommands, gitCommands, type NetworkOptions } from "./command.ts";
import { gitFailure, isRedirect } from "./failure.ts";
import { redirectTarget } from "./redirects.ts";

/** The settings for requests to git servers, the same for all repositories of a job. */
export interface GitAccess {
  readonly allowed: GitSettings;
  readonly environment: ChildEnvironment;
  readonly controlGroup?: string;
  readonly retry: RetryPolicy;
  readonly budget: CloneBudget;
  readonly log: (line: string) => void;
}

export interface RemoteRepository {
  readonly repositoryUrl: string;
  /** The branch, tag or commit to name in failures. */
  readonly branch: string;
  readonly token: string | undefined;
}

export interface RemoteCommand extends NetworkOptions {
  readonly args: (url: string) => readonly string[];
  readonly cwd: string;
  /** The commit that the command requests by its id. */
  readonly commit?: string;
  /** The .git folder that the command writes to, for the size limit. */
  readonly gitFolder?: string;
  /** A folder that the command creates. It is removed before each attempt: a killed command leaves it incomplete. */
  readonly into?: string;
}

/** A repository on its server. */
export class GitRemote {
  readonly git: GitCommands;
  readonly #repository: RemoteRepository;
  readonly #access: GitAccess;
  #url: string;

  constructor(repository: RemoteRepository, access: GitAccess) {
    const { repositoryUrl, token } = repository;
    const { environment, controlGroup, budget, log } = access;
    this.#repository = repository;
    this.#access = access;
    this.#url = repositoryUrl;
    const { signal } = budget;
    this.git = gitCommands({ environment, controlGroup, repositoryUrl, token, signal, onLine: log });
  }

  /** Retries temporary failures. @throws StepFailure that explains the server's refusal. */
  async run(command: RemoteCommand): Promise<void> {
    const { retry: policy, budget, log } = this.#access;
    const attempt = async () => {
      if (command.into !== undefined) await removeTree(command.into);
      const end = await this.tryOnce(command);
      if (end.exitCode !== 0) throw this.failure(end, command.commit);
    };
    await retryInPlace({ policy, signal: budget.signal, log, attempt });
  }

  /** Returns the command's end, whatever its exit status. */
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

  failure({ stderrTail }: GroupEnd, commit?: string): StepFailure {
    const { repositoryUrl, branch, token } = this.#repository;
    return gitFailure({ repositoryUrl, branch, withToken: token !== undefined, commit }, stderrTail);
  }

  #once({ args, cwd, gitFolder, commit: _, ...options }: RemoteCommand): Promise<GroupEnd> {
    const command = () => this.git.network(args(this.#url), cwd, options);
    return gitFolder === undefined ? command() : this.#access.budget.watching(gitFolder, command);
  }
}

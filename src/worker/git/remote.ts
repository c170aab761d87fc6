import { type GitSettings, isAllowedUrl } from "../../shared/repository-url.ts";
import type { StepFailure } from "../job/failure.ts";
import { type RetryPolicy, retryInPlace } from "../job/retry.ts";
import { removeTree } from "../job/workspace.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import type { CloneBudget } from "./budget.ts";
import { type GitCommands, gitCommands, type NetworkEnd, type NetworkOptions } from "./command.ts";
import { type JobCredentials, withoutSuffix } from "./credentials.ts";
import type { Authorization } from "./environment.ts";
import { gitFailure, redirectOf } from "./failure.ts";

/** The settings for requests to git servers, the same for all repositories of a job. */
export interface GitAccess {
  readonly allowed: GitSettings;
  readonly credentials: JobCredentials;
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
}

export interface RemoteCommand extends Omit<NetworkOptions, "authorization"> {
  readonly args: (url: string) => readonly string[];
  readonly cwd: string;
  /** The commit that the command requests by its id. */
  readonly commit?: string;
  /** The .git folder that the command writes to, for the size limit. */
  readonly gitFolder?: string;
  /** A folder that the command creates. It is removed before each attempt: a killed command leaves it incomplete. */
  readonly into?: string;
}

const MAX_REDIRECTS = 5;

/** A repository on its server. */
export class GitRemote {
  readonly git: GitCommands;
  readonly #repository: RemoteRepository;
  readonly #access: GitAccess;
  readonly #authorization: string | undefined;
  #url: string;

  constructor(repository: RemoteRepository, access: GitAccess) {
    const { environment, controlGroup, budget, log } = access;
    this.#repository = repository;
    this.#access = access;
    this.#authorization = access.credentials.forRepository(repository.repositoryUrl);
    this.#url = repository.repositoryUrl;
    const { signal, silenceTimeoutMs } = budget;
    this.git = gitCommands({ environment, controlGroup, silenceTimeoutMs, signal, onLine: log });
  }

  /**
   * Retries temporary failures. `first` is the end of a try that the caller has made.
   * @throws StepFailure that explains the server's refusal.
   */
  async run(command: RemoteCommand, first?: NetworkEnd): Promise<void> {
    const { retry: policy, budget, log } = this.#access;
    let known = first;
    const attempt = async () => {
      const end = known ?? (await this.#tryAgain(command));
      known = undefined;
      if (end.exitCode !== 0) throw this.failure(end, command.commit);
    };
    const timeLeftMs = () => budget.timeLeftMs();
    await retryInPlace({ policy, signal: budget.signal, timeLeftMs, log, attempt });
  }

  /** Follows redirects. Returns the command's end, whatever its exit status. */
  async tryOnce(command: RemoteCommand): Promise<NetworkEnd> {
    for (let followed = 0; ; followed++) {
      const end = await this.#once(command);
      const target = this.#redirectTarget(end);
      if (target === undefined || followed === MAX_REDIRECTS) return end;
      this.#access.log(`${this.#url} redirects to ${target}`);
      this.#url = target;
    }
  }

  failure(end: NetworkEnd, commit?: string): StepFailure {
    const { repositoryUrl, branch } = this.#repository;
    const { credentials } = this.#access;
    const user = this.#authorization === undefined ? undefined : credentials.userFor(repositoryUrl);
    return gitFailure({ repositoryUrl, branch, user, withoutToken: credentials.absence, commit }, end);
  }

  async #tryAgain(command: RemoteCommand): Promise<NetworkEnd> {
    if (command.into !== undefined) await removeTree(command.into);
    return this.tryOnce(command);
  }

  /** Undefined when there is none that may be followed. A token is sent to its own repository only. */
  #redirectTarget(end: NetworkEnd): string | undefined {
    const target = end.exitCode === 0 ? undefined : redirectOf(this.#url, end)?.repositoryUrl;
    if (target === undefined || !isAllowedUrl(target, this.#access.allowed)) return undefined;
    const isSame = withoutSuffix(target) === withoutSuffix(this.#repository.repositoryUrl);
    return this.#authorization === undefined || isSame ? target : undefined;
  }

  #once({ args, cwd, gitFolder, commit: _, ...options }: RemoteCommand): Promise<NetworkEnd> {
    const url = this.#url;
    const authorization: Authorization | undefined =
      this.#authorization === undefined ? undefined : { url, value: this.#authorization };
    const command = () => this.git.network(args(url), cwd, { ...options, authorization });
    return gitFolder === undefined ? command() : this.#access.budget.watching(gitFolder, command);
  }
}

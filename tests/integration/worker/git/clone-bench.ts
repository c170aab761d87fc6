import { type CloneLimits, DEFAULT_CLONE_LIMITS } from "../../../../src/worker/git/budget.ts";
import { resolve, type Source } from "../../../../src/worker/git/checkout.ts";
import { CheckoutCache } from "../../../../src/worker/git/checkout-cache.ts";
import {
  type CredentialSettings,
  DEFAULT_CREDENTIAL_SETTINGS,
} from "../../../../src/worker/git/credentials.ts";
import { type History, ONE_COMMIT } from "../../../../src/worker/git/history.ts";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import { createWorkspace, type Workspace } from "../../../../src/worker/job/workspace.ts";
import { childEnvironment } from "../../../../src/worker/process/child-environment.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { type GitServer, startGitServer } from "../../../support/servers/git-server.ts";

export interface Wanted {
  readonly url: string;
  readonly branch: string;
  readonly commit?: string;
  readonly gitToken?: string;
  readonly history?: History;
  readonly tenant?: string;
  readonly workDir?: string;
  readonly checkoutCache?: CheckoutCache;
  readonly limits?: Partial<CloneLimits>;
  readonly allowedHosts?: readonly string[];
  /** Default: the git server's URL. */
  readonly baseUrl?: string;
  readonly needsDefaultBranch?: boolean;
  readonly credentials?: Partial<CredentialSettings>;
  /** As `performance.now` counts. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
  /** Called for each line of the log. */
  readonly onLine?: (line: string) => void;
}

export interface Cloned {
  readonly commit: string;
  readonly source: Source;
  readonly workspace: Workspace;
  readonly lines: readonly string[];
  /** Ends the run as the pipeline does: the checkout goes to the cache, if that is enabled. */
  end(): Promise<void>;
}

export interface CloneBench {
  readonly git: GitServer;
  readonly dir: TempDir;
  resolved(wanted: Wanted): Promise<Cloned>;
  cloned(wanted: Wanted): Promise<Cloned>;
  failureOf(wanted: Wanted): Promise<StepFailure["failure"]>;
  /** A new work folder with a checkout cache. */
  checkoutCache(limitBytes?: number): { readonly workDir: string; readonly checkoutCache: CheckoutCache };
  stop(): Promise<void>;
}

export const repositoryName = () => `acme/${crypto.randomUUID()}`;

export async function startCloneBench(): Promise<CloneBench> {
  const git = await startGitServer();
  const dir = await makeTempDir("clone");

  async function resolved(wanted: Wanted): Promise<Cloned> {
    const { url, workDir = dir.path, limits, allowedHosts = [], baseUrl = git.baseUrl, ...rest } = wanted;
    const job = { tenant: "acme", history: ONE_COMMIT, ...rest };
    const target = { awsAccount: "123456789012", region: "us-east-1", ecrRepo: "app", tenant: job.tenant };
    const run = { jobId: crypto.randomUUID(), attempt: 1, ...target };
    const workspace = await createWorkspace(workDir, "clones", run);
    const lines: string[] = [];
    const source = await resolve({
      job,
      repositoryUrl: url,
      allowed: { baseUrl, allowedHosts },
      credentials: { ...DEFAULT_CREDENTIAL_SETTINGS, ...wanted.credentials },
      workspace,
      environment: childEnvironment(process.env, workspace.home),
      checkoutCache: wanted.checkoutCache ?? new CheckoutCache({ workDir, limitBytes: 0, bootId: "boot" }),
      limits: { ...DEFAULT_CLONE_LIMITS, ...limits },
      needsDefaultBranch: wanted.needsDefaultBranch ?? false,
      retry: { tries: 2, initialDelayMs: 10 },
      log: (line) => {
        lines.push(line);
        wanted.onLine?.(line);
      },
      signal: wanted.signal ?? new AbortController().signal,
    });
    const end = async () => {
      await source.cacheCheckout();
      await workspace.remove();
    };
    return { commit: source.commit, source, workspace, lines, end };
  }

  async function cloned(wanted: Wanted): Promise<Cloned> {
    const run = await resolved(wanted);
    await run.source.checkOut();
    return run;
  }

  return {
    git,
    dir,
    resolved,
    cloned,
    async failureOf(wanted) {
      const error = await cloned(wanted).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (!(error instanceof StepFailure))
        throw new Error("the clone did not fail with a StepFailure", { cause: error });
      return error.failure;
    },
    checkoutCache(limitBytes = 1e9) {
      const workDir = `${dir.path}/${crypto.randomUUID()}`;
      return { workDir, checkoutCache: new CheckoutCache({ workDir, limitBytes, bootId: "boot" }) };
    },
    async stop() {
      await git.stop();
      await dir.remove();
    },
  };
}

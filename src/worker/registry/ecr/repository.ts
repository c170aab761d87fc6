/** The repository that a job's image goes to: looked at before anything is built, and made when that is wanted. */
import {
  CreateRepositoryCommand,
  DescribeRepositoriesCommand,
  type ECRClient,
  PutLifecyclePolicyCommand,
  type Repository,
} from "@aws-sdk/client-ecr";
import { StepFailure } from "../../job/failure.ts";
import type { AuthenticationRequest } from "../access.ts";
import { ecrAuthFailure } from "./failure.ts";

/** How a repository is made that does not exist. */
export interface NewEcrRepository {
  readonly scanOnPush: boolean;
  readonly tagMutability: "MUTABLE" | "IMMUTABLE";
  /** Wildcards; tags that match one have the other mutability. */
  readonly tagExclusions: readonly string[];
  /** As JSON. */
  readonly lifecyclePolicy?: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** Undefined when the worker may not look. Throws ECR_REPO_NOT_FOUND or ECR_AUTH. */
export async function ecrRepository(
  ecr: ECRClient,
  request: AuthenticationRequest,
  wanted: NewEcrRepository | undefined,
): Promise<Repository | undefined> {
  try {
    return await describe(ecr, request);
  } catch (error) {
    request.signal.throwIfAborted();
    if (errorName(error) === "RepositoryNotFoundException") return missing(ecr, request, wanted);
    return cannotDescribe(error, request);
  }
}

async function describe(ecr: ECRClient, { job, signal }: AuthenticationRequest) {
  const { awsAccount: registryId, ecrRepo } = job;
  const command = new DescribeRepositoriesCommand({ registryId, repositoryNames: [ecrRepo] });
  const { repositories } = await ecr.send(command, { abortSignal: signal });
  return repositories?.[0];
}

/** A worker need not be allowed to look: the registry itself decides when it is pushed to. */
function cannotDescribe(error: unknown, { job, log }: AuthenticationRequest): undefined {
  if (error instanceof StepFailure) throw error;
  log(`cannot look at the ECR repository ${job.ecrRepo} before the push: ${errorName(error)}`);
}

function missing(ecr: ECRClient, request: AuthenticationRequest, wanted: NewEcrRepository | undefined) {
  if (wanted) return create(ecr, request, wanted);
  const { ecrRepo, awsAccount, region } = request.job;
  const message = `there is no ECR repository ${ecrRepo} in account ${awsAccount}, ${region}`;
  throw new StepFailure({ code: "ECR_REPO_NOT_FOUND", step: "authenticate", message });
}

/** Not aborted with the run: whoever has made the repository also gives it its policy. */
async function create(ecr: ECRClient, request: AuthenticationRequest, wanted: NewEcrRepository) {
  const { job, log } = request;
  try {
    const { repository } = await ecr.send(createCommand(job, wanted));
    log(`made the ECR repository ${job.ecrRepo} in account ${job.awsAccount}, ${job.region}`);
    await putLifecyclePolicy(ecr, request, wanted);
    return repository;
  } catch (error) {
    // Another run was faster, and may have been told to make it otherwise.
    if (errorName(error) === "RepositoryAlreadyExistsException") {
      return describe(ecr, request).catch((refusal: unknown) => cannotDescribe(refusal, request));
    }
    if (error instanceof StepFailure) throw error;
    throw ecrAuthFailure(`the ECR repository ${job.ecrRepo} cannot be created`, error);
  }
}

function createCommand(job: AuthenticationRequest["job"], wanted: NewEcrRepository): CreateRepositoryCommand {
  const excluding = wanted.tagExclusions.length > 0;
  return new CreateRepositoryCommand({
    registryId: job.awsAccount,
    repositoryName: job.ecrRepo,
    imageScanningConfiguration: { scanOnPush: wanted.scanOnPush },
    imageTagMutability: excluding ? `${wanted.tagMutability}_WITH_EXCLUSION` : wanted.tagMutability,
    imageTagMutabilityExclusionFilters: excluding
      ? wanted.tagExclusions.map((filter) => ({ filterType: "WILDCARD", filter }))
      : undefined,
    tags: Object.entries(wanted.tags).map(([Key, Value]) => ({ Key, Value })),
  });
}

/** An image is worth more than the order in its repository. */
async function putLifecyclePolicy(
  ecr: ECRClient,
  { job, log }: AuthenticationRequest,
  { lifecyclePolicy: lifecyclePolicyText }: NewEcrRepository,
): Promise<void> {
  if (lifecyclePolicyText === undefined) return;
  const { awsAccount: registryId, ecrRepo: repositoryName } = job;
  try {
    await ecr.send(new PutLifecyclePolicyCommand({ registryId, repositoryName, lifecyclePolicyText }));
  } catch (error) {
    const says = error instanceof Error ? error.message : String(error);
    log(`WARNING: the ECR repository ${repositoryName} stays without its lifecycle policy: ${says}`);
  }
}

function errorName(error: unknown): string {
  return error instanceof Error ? error.name : String(error);
}

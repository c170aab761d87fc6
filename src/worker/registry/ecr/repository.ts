/** The ECR repository of a job's image: checked before the build, and created if the settings allow it. */
import {
  CreateRepositoryCommand,
  DescribeRepositoriesCommand,
  type ECRClient,
  PutLifecyclePolicyCommand,
  paginateDescribeRepositoryCreationTemplates,
  type Repository,
  type RepositoryCreationTemplate,
} from "@aws-sdk/client-ecr";
import { describeAwsError } from "../../../shared/aws/errors.ts";
import { StepFailure } from "../../job/failure.ts";
import type { AuthenticationRequest } from "../access.ts";
import { ecrAuthFailure } from "./failure.ts";

/** Settings of repositories that the worker creates. */
export interface NewEcrRepository {
  readonly scanOnPush: boolean;
  readonly tagMutability: "MUTABLE" | "IMMUTABLE";
  /** Wildcards; matching tags have the other mutability. */
  readonly tagExclusions: readonly string[];
  /** As JSON. */
  readonly lifecyclePolicy?: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** Undefined when the worker may not describe it. Throws ECR_REPO_NOT_FOUND or ECR_AUTH. */
export async function ecrRepository(
  ecr: ECRClient,
  request: AuthenticationRequest,
  settings: NewEcrRepository | undefined,
): Promise<Repository | undefined> {
  try {
    return await describe(ecr, request);
  } catch (error) {
    request.signal.throwIfAborted();
    if (errorName(error) === "RepositoryNotFoundException") return missing(ecr, request, settings);
    return cannotDescribe(error, request);
  }
}

async function describe(ecr: ECRClient, { job, signal }: AuthenticationRequest) {
  const { awsAccount: registryId, ecrRepo } = job;
  const command = new DescribeRepositoriesCommand({ registryId, repositoryNames: [ecrRepo] });
  const { repositories } = await ecr.send(command, { abortSignal: signal });
  return repositories?.[0];
}

/** The permission is optional: the registry itself decides at the push. */
function cannotDescribe(error: unknown, { job, log }: AuthenticationRequest): undefined {
  if (error instanceof StepFailure) throw error;
  log(`cannot check the ECR repository ${job.ecrRepo} before the push: ${describeAwsError(error)}`);
}

async function missing(
  ecr: ECRClient,
  request: AuthenticationRequest,
  settings: NewEcrRepository | undefined,
): Promise<Repository | undefined> {
  if (settings) return create(ecr, request, settings);
  const { ecrRepo, awsAccount, region } = request.job;
  if (await isCreatedOnPush(ecr, request)) {
    request.log(`the ECR repository ${ecrRepo} does not exist yet; ECR creates it with the push`);
    return undefined;
  }
  const message = `ECR repository ${ecrRepo} not found in account ${awsAccount}, region ${region}`;
  throw new StepFailure({ code: "ECR_REPO_NOT_FOUND", step: "authenticate", message });
}

const OF_ALL_REPOSITORIES = "ROOT";

/** Whether the registry's template for this name creates repositories. False, too, when the worker may not read it. */
async function isCreatedOnPush(ecr: ECRClient, { job, signal }: AuthenticationRequest): Promise<boolean> {
  let applied: RepositoryCreationTemplate | undefined;
  try {
    for await (const page of paginateDescribeRepositoryCreationTemplates(
      { client: ecr },
      {},
      { abortSignal: signal },
    )) {
      // The templates are those of the caller's account: this request cannot name another one.
      if (page.registryId !== job.awsAccount) return false;
      for (const template of page.repositoryCreationTemplates ?? [])
        if (isFor(job.ecrRepo, template) && rank(template) > rank(applied)) applied = template;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof StepFailure) throw error;
    return false;
  }
  return applied?.appliedFor?.includes("CREATE_ON_PUSH") ?? false;
}

function isFor(repository: string, { prefix = "" }: RepositoryCreationTemplate): boolean {
  return prefix === OF_ALL_REPOSITORIES || repository.startsWith(`${prefix.replace(/\/$/, "")}/`);
}

/** ECR uses the template with the longest prefix. */
function rank(template: RepositoryCreationTemplate | undefined): number {
  if (template === undefined) return -1;
  return template.prefix === OF_ALL_REPOSITORIES ? 0 : (template.prefix ?? "").length;
}

/** Not aborted with the run: a repository that this worker has created must get its lifecycle policy too. */
async function create(ecr: ECRClient, request: AuthenticationRequest, settings: NewEcrRepository) {
  const { job, log } = request;
  try {
    const { repository } = await ecr.send(createCommand(job, settings));
    log(`created the ECR repository ${job.ecrRepo} in account ${job.awsAccount}, region ${job.region}`);
    await putLifecyclePolicy(ecr, request, settings);
    return repository;
  } catch (error) {
    // Another run has created it meanwhile, perhaps with other settings.
    if (errorName(error) === "RepositoryAlreadyExistsException") {
      return describe(ecr, request).catch((refusal: unknown) => cannotDescribe(refusal, request));
    }
    if (error instanceof StepFailure) throw error;
    throw ecrAuthFailure(`the ECR repository ${job.ecrRepo} cannot be created`, error);
  }
}

function createCommand(
  job: AuthenticationRequest["job"],
  settings: NewEcrRepository,
): CreateRepositoryCommand {
  const excluding = settings.tagExclusions.length > 0;
  return new CreateRepositoryCommand({
    registryId: job.awsAccount,
    repositoryName: job.ecrRepo,
    imageScanningConfiguration: { scanOnPush: settings.scanOnPush },
    imageTagMutability: excluding ? `${settings.tagMutability}_WITH_EXCLUSION` : settings.tagMutability,
    imageTagMutabilityExclusionFilters: excluding
      ? settings.tagExclusions.map((filter) => ({ filterType: "WILDCARD", filter }))
      : undefined,
    tags: Object.entries(settings.tags).map(([Key, Value]) => ({ Key, Value })),
  });
}

/** A failure is only logged: the image matters more than the lifecycle policy. */
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
    const reason = error instanceof Error ? error.message : String(error);
    log(`WARNING: ECR repository ${repositoryName} was created without its lifecycle policy: ${reason}`);
  }
}

function errorName(error: unknown): string {
  return error instanceof Error ? error.name : String(error);
}

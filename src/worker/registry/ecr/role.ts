/** The role that a worker assumes for a job, and the policy of that session: it allows only what both allow. */
import { cacheRepositoryFor, TENANT_PLACEHOLDER } from "../cache-repository.ts";
import { partitionOf } from "./partition.ts";

export interface EcrRole {
  /** `{account}` and `{partition}` stand for the job's account and its region's partition. */
  readonly arnTemplate: string;
  /**
   * Required by the role's trust policy, so that a job of another tenant cannot make the worker assume the role;
   * `{tenant}` stands for the job's tenant.
   */
  readonly externalId?: string;
  /** The template of BLACKTREE_CACHE_REPO, which sessions may use too. */
  readonly cacheRepository?: string;
  /** Repositories that every job may pull from. */
  readonly baseRepositories?: readonly BaseRepository[];
}

export interface BaseRepository {
  /** `*` is a wildcard; `{tenant}` as above. */
  readonly name: string;
  /** Undefined for the registry of each job's account and region. */
  readonly registry?: EcrRegistry;
}

export interface EcrRegistry {
  readonly host: string;
  readonly account: string;
  readonly region: string;
}

export interface SessionJob {
  readonly awsAccount: string;
  readonly region: string;
  readonly ecrRepo: string;
  readonly tenant: string;
  /** Undefined for work that belongs to no job, such as crash recovery. */
  readonly jobId?: string;
}

const SIGN_IN = "ecr:GetAuthorizationToken";
/** Which concern no single repository. */
const REGISTRY_ACTIONS = [SIGN_IN, "ecr:DescribeRepositoryCreationTemplates"];
const PULL_ACTIONS = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"];
const MAX_SESSION_NAME_CHARS = 64;

/** For the job's repository, the cache of its tenant, and base images in its account. */
export function sessionPolicy(role: EcrRole, job: SessionJob): string {
  const { awsAccount: account, region, ecrRepo, tenant } = job;
  const arnOf = arnsOf({ account, region }, tenant);
  const cache = role.cacheRepository === undefined ? [] : [cacheRepositoryFor(role.cacheRepository, tenant)];
  const isOwn = ({ registry }: BaseRepository) =>
    registry === undefined || (registry.account === account && registry.region === region);
  const base = (role.baseRepositories ?? []).filter(isOwn).map(({ name }) => arnOf(name));
  return policyOf(REGISTRY_ACTIONS, [
    allow(["ecr:*"], [ecrRepo, ...cache].map(arnOf)),
    ...(base.length > 0 ? [allow(PULL_ACTIONS, base)] : []),
  ]);
}

/** For pulls from these repositories of the registry, and nothing else. */
export function pullPolicy(registry: EcrRegistry, names: readonly string[], tenant: string): string {
  return policyOf([SIGN_IN], [allow(PULL_ACTIONS, names.map(arnsOf(registry, tenant)))]);
}

function arnsOf({ account, region }: Pick<EcrRegistry, "account" | "region">, tenant: string) {
  const prefix = `arn:${partitionOf(region)}:ecr:${region}:${account}:repository/`;
  return (name: string) => prefix + name.replaceAll(TENANT_PLACEHOLDER, tenant);
}

function policyOf(registryActions: readonly string[], statements: readonly object[]): string {
  return JSON.stringify({ Version: "2012-10-17", Statement: [allow(registryActions, ["*"]), ...statements] });
}

function allow(actions: readonly string[], resources: readonly string[]) {
  return { Effect: "Allow", Action: actions, Resource: resources };
}

/** AWS's audit log shows it. */
export function sessionName({ jobId = "worker" }: SessionJob): string {
  return `blacktree-${jobId.replaceAll(":", "-")}`.slice(0, MAX_SESSION_NAME_CHARS);
}

/** Undefined when the role asks for none. */
export function externalIdOf({ externalId }: EcrRole, { tenant }: SessionJob): string | undefined {
  return externalId?.replaceAll(TENANT_PLACEHOLDER, tenant);
}

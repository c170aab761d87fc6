import type { AwsAnswer, AwsState, EcrRepository } from "./aws.ts";
import type { AwsKey } from "./aws-signature.ts";

type Input = Record<string, unknown>;
type Action = (state: AwsState, input: Input, key: AwsKey) => AwsAnswer;

function describe(state: AwsState, account: string, repository: EcrRepository): Input {
  return {
    repositoryArn: `arn:aws:ecr:${state.region}:${account}:repository/${repository.name}`,
    registryId: account,
    repositoryName: repository.name,
    repositoryUri: `${account}.dkr.ecr.${state.region}.amazonaws.com/${repository.name}`,
    createdAt: 1_700_000_000,
    imageTagMutability: repository.imageTagMutability,
    imageTagMutabilityExclusionFilters: repository.imageTagMutabilityExclusionFilters,
    imageScanningConfiguration: { scanOnPush: repository.scanOnPush ?? false },
    encryptionConfiguration: { encryptionType: "AES256" },
  };
}

function ownerOf(input: Input, key: AwsKey): string {
  return typeof input.registryId === "string" ? input.registryId : key.account;
}

function ofAccount(state: AwsState, account: string): Map<string, EcrRepository> {
  const existing = state.repositories.get(account) ?? new Map<string, EcrRepository>();
  state.repositories.set(account, existing);
  return existing;
}

const getAuthorizationToken: Action = (state, input, key) => {
  const { behaviour } = state;
  const expiresAtMs = Date.now() + behaviour.tokenLifetimeMs;
  const password = behaviour.registryLogin?.password ?? `token-${crypto.randomUUID()}`;
  // The registry does not accept a wrong password.
  if (!behaviour.wrongPassword) state.registryTokens.set(password, expiresAtMs);
  const handedOut = behaviour.wrongPassword ? `wrong-${crypto.randomUUID()}` : password;
  const registryIds = Array.isArray(input.registryIds) ? input.registryIds.map(String) : [key.account];
  return {
    ok: {
      authorizationData: registryIds.map((account) => ({
        authorizationToken: btoa(`${behaviour.registryLogin?.username ?? "AWS"}:${handedOut}`),
        expiresAt: expiresAtMs / 1_000,
        proxyEndpoint: behaviour.proxyEndpoint || `https://${account}.dkr.ecr.${state.region}.amazonaws.com`,
      })),
    },
  };
};

/** For a key of another account, only the repository's policy can allow access. */
function refuseForeignAccount(
  { name, allowedAccounts }: EcrRepository,
  owner: string,
  key: AwsKey,
  action: string,
): AwsAnswer | undefined {
  if (owner === key.account || allowedAccounts === undefined || allowedAccounts.includes(key.account)) {
    return undefined;
  }
  const message = `User: ${key.arn} is not authorized to perform: ${action} on resource: ${name} because no resource-based policy allows the ${action} action`;
  return { error: "AccessDeniedException", message, status: 400 };
}

const describeRepositories: Action = (state, input, key) => {
  const account = ownerOf(input, key);
  const known = ofAccount(state, account);
  const names = Array.isArray(input.repositoryNames) ? input.repositoryNames.map(String) : [...known.keys()];
  const repositories: Input[] = [];
  for (const name of names) {
    const repository = known.get(name);
    if (repository === undefined) {
      const message = `The repository with name '${name}' does not exist in the registry with id '${account}'`;
      return { error: "RepositoryNotFoundException", message, status: 400 };
    }
    const refused = refuseForeignAccount(repository, account, key, "ecr:DescribeRepositories");
    if (refused) return refused;
    repositories.push(describe(state, account, repository));
  }
  return { ok: { repositories } };
};

const validName = /^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*\/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

const createRepository: Action = (state, input, key) => {
  const account = ownerOf(input, key);
  const name = String(input.repositoryName);
  if (!validName.test(name) || name.length < 2) {
    const message = `Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '${validName.source}''`;
    return { error: "InvalidParameterException", message, status: 400 };
  }
  const known = ofAccount(state, account);
  if (known.has(name)) {
    const message = `The repository with name '${name}' already exists in the registry with id '${account}'`;
    return { error: "RepositoryAlreadyExistsException", message, status: 400 };
  }
  const given = input as Partial<EcrRepository> & { imageScanningConfiguration?: { scanOnPush?: boolean } };
  const repository: EcrRepository = {
    name,
    imageTagMutability: given.imageTagMutability ?? "MUTABLE",
    imageTagMutabilityExclusionFilters: given.imageTagMutabilityExclusionFilters,
    scanOnPush: given.imageScanningConfiguration?.scanOnPush,
    tags: given.tags,
  };
  known.set(name, repository);
  return { ok: { repository: describe(state, account, repository) } };
};

const putLifecyclePolicy: Action = (state, input, key) => {
  const account = ownerOf(input, key);
  const name = String(input.repositoryName);
  const repository = ofAccount(state, account).get(name);
  if (repository === undefined) {
    const message = `The repository with name '${name}' does not exist in the registry with id '${account}'`;
    return { error: "RepositoryNotFoundException", message, status: 400 };
  }
  repository.lifecyclePolicyText = String(input.lifecyclePolicyText);
  const { lifecyclePolicyText } = repository;
  return { ok: { registryId: account, repositoryName: name, lifecyclePolicyText } };
};

const describeCreationTemplates: Action = (state, _, key) => ({
  ok: { registryId: key.account, repositoryCreationTemplates: state.behaviour.creationTemplates },
});

const actions: Record<string, Action> = {
  GetAuthorizationToken: getAuthorizationToken,
  DescribeRepositories: describeRepositories,
  CreateRepository: createRepository,
  PutLifecyclePolicy: putLifecyclePolicy,
  DescribeRepositoryCreationTemplates: describeCreationTemplates,
};

export function ecrAnswer(state: AwsState, action: string, input: Input, key: AwsKey): AwsAnswer {
  const handler = Object.hasOwn(actions, action) ? actions[action] : undefined;
  return handler?.(state, input, key) ?? { error: "UnknownOperationException", message: "", status: 400 };
}

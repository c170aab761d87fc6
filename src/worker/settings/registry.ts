/** Registry settings that `blacktree-worker` and `blacktree up` share. */
import { readFileSync } from "node:fs";
import * as parse from "../../shared/settings/parsers.ts";
import {
  BadValue,
  optional,
  type Parser,
  type SettingProblem,
  type SettingValues,
  withDefault,
} from "../../shared/settings/settings.ts";
import type { RegistryAuthenticator } from "../registry/access.ts";
import { REGISTRY_AUTH, RegistryAuthFile, type RegistryAuthFileOptions } from "../registry/auth-file.ts";
import type { BaseLoginSource } from "../registry/base-logins.ts";
import { BadDockerAuths, readDockerAuths } from "../registry/docker-auths.ts";
import { EcrAuthenticator } from "../registry/ecr/authenticator.ts";
import { EcrBaseRegistries } from "../registry/ecr/base-registries.ts";
import type { BaseRepository, EcrRole } from "../registry/ecr/role.ts";
import { StaticRegistryAuthenticator } from "../registry/static-registry.ts";

const ROLE_PATTERN = /^arn:(aws[a-z-]*|\{partition\}):iam::(\{account\}|\d{12}):role\/[\w+=,.@/-]+$/;
/** The format that STS requires: STS would repeat an invalid value in its error message. */
const EXTERNAL_ID_PATTERN = /^(?=.{2,1100}$)([\w+=,.@:/-]|\{tenant\})+$/;
/** Names of repositories, with wildcards, and before them the host of an ECR registry. */
const BASE_REPOSITORY_PATTERN =
  /^(?:(?<host>(?<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn))\/)?(?<name>(?=.{1,256}$)(?!.*\.dkr[.-]ecr)(?:[a-z0-9._/*-]|\{tenant\})+)$/;
/** A session policy has at most 2,048 characters. */
const MAX_BASE_REPOSITORIES = 5;
const TAG_FILTER_PATTERN = /^(?=.{1,128}$)[\w.-]*(\*[\w.-]*){0,2}$/;
const MAX_TAG_FILTERS = 5;
const REPOSITORY_TAG_PATTERN = /^([\p{L}\p{N} _.:/+@-]{1,128})=([\p{L}\p{N} _.:/=+@-]{0,256})$/u;
const MAX_REPOSITORY_TAGS = 50;
const REGISTRY_PATTERN = /^(https?:\/\/)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d+)?\/?$/;

const tagFilters: Parser<readonly string[]> = (raw) => {
  const expected = `at most ${MAX_TAG_FILTERS} of letters, digits, . _ - and one or two *, comma separated`;
  const tagFilter = parse.matching(TAG_FILTER_PATTERN, expected);
  const filters = parse.commaSeparated(tagFilter)(raw);
  if (filters.length <= MAX_TAG_FILTERS) return filters;
  throw new BadValue("has too many entries", expected);
};

const baseRepositories: Parser<readonly BaseRepository[]> = (raw) => {
  const expected = `at most ${MAX_BASE_REPOSITORIES} names of repositories with * and {tenant}, comma separated; before a name may be a registry, <account>.dkr.ecr.<region>.amazonaws.com/`;
  const repositories = parse.commaSeparated((entry): BaseRepository => {
    const { name, host, account = "", region = "" } = BASE_REPOSITORY_PATTERN.exec(entry)?.groups ?? {};
    if (name === undefined) throw new BadValue("has an invalid entry", expected);
    return { name, registry: host === undefined ? undefined : { host, account, region } };
  })(raw);
  if (repositories.length <= MAX_BASE_REPOSITORIES) return repositories;
  throw new BadValue("has too many entries", expected);
};

/** Read at the start, so that a wrong file is a wrong setting. */
const registryAuthFile: Parser<Pick<RegistryAuthFileOptions, "path" | "auths">> = (path) => {
  const expected =
    'the path of a file in the format of docker\'s config.json, {"auths": {"<registry>": {"auth": "<base64 of user:password>"}}}';
  try {
    return { path, auths: readDockerAuths(readFileSync(path, "utf8")) };
  } catch (error) {
    if (error instanceof BadDockerAuths)
      throw new BadValue(`has a wrong content: ${error.message}`, expected);
    throw new BadValue(`cannot be read (${(error as NodeJS.ErrnoException).code})`, expected);
  }
};

const repositoryTags: Parser<Readonly<Record<string, string>>> = (raw) => {
  const expected = `key=value, comma separated, at most ${MAX_REPOSITORY_TAGS}`;
  const pairs = parse.commaSeparated((part) => {
    const [, key = "", value = ""] = REPOSITORY_TAG_PATTERN.exec(part) ?? [];
    if (key === "") throw new BadValue("has an invalid entry", expected);
    return [key, value] as const;
  })(raw);
  if (pairs.length <= MAX_REPOSITORY_TAGS) return Object.fromEntries(pairs);
  throw new BadValue("has too many entries", expected);
};

/** The file's text, read at the start so that a wrong file is a wrong setting; ECR checks the rules themselves. */
const lifecyclePolicyFile: Parser<string> = (raw) => {
  const expected = 'the path of a JSON file with a lifecycle policy, {"rules": […]}';
  let text: string;
  try {
    text = readFileSync(raw, "utf8");
  } catch (error) {
    throw new BadValue(`cannot be read (${(error as NodeJS.ErrnoException).code})`, expected);
  }
  if (hasRules(text)) return text;
  throw new BadValue("does not contain a lifecycle policy", expected);
};

function hasRules(text: string): boolean {
  try {
    return Array.isArray((JSON.parse(text) as { rules?: unknown } | null)?.rules);
  } catch {
    return false;
  }
}

export const registrySettings = {
  ecrRoleArn: optional(
    {
      name: "BLACKTREE_ECR_ROLE_ARN",
      description: "role to assume for ECR; {account} is replaced by the job's account",
    },
    parse.matching(
      ROLE_PATTERN,
      "arn:aws:iam::{account}:role/<name>; also an account's number for {account}, and another partition or {partition} for aws",
    ),
  ),
  ecrExternalId: optional(
    {
      name: "BLACKTREE_ECR_EXTERNAL_ID",
      description:
        "external id that the role's trust policy requires; {tenant} is replaced by the job's tenant",
      secrecy: "secret",
    },
    parse.matching(
      EXTERNAL_ID_PATTERN,
      "2 to 1100 letters, digits and _ + = , . @ : / -, and {tenant} for the tenant",
    ),
  ),
  ecrBaseRepositories: optional(
    {
      name: "BLACKTREE_ECR_BASE_REPOS",
      description:
        "repositories that a job may also pull from with BLACKTREE_ECR_ROLE_ARN, or in the registry of another account; * is a wildcard, {tenant} is replaced; comma separated",
    },
    baseRepositories,
  ),
  ecrCreateRepository: withDefault(
    { name: "BLACKTREE_ECR_CREATE_REPOSITORY", description: "create ECR repositories that do not exist" },
    parse.flag,
    "false",
  ),
  ecrScanOnPush: withDefault(
    { name: "BLACKTREE_ECR_SCAN_ON_PUSH", description: "created repositories scan pushed images" },
    parse.flag,
    "false",
  ),
  ecrTagMutability: withDefault(
    {
      name: "BLACKTREE_ECR_TAG_MUTABILITY",
      description: "whether tags of created repositories can be moved: MUTABLE or IMMUTABLE",
    },
    parse.oneOf("MUTABLE", "IMMUTABLE"),
    "MUTABLE",
  ),
  ecrTagExclusions: optional(
    {
      name: "BLACKTREE_ECR_TAG_EXCLUSIONS",
      description:
        "tags of created repositories with the opposite mutability; * is a wildcard; comma separated",
    },
    tagFilters,
  ),
  ecrLifecyclePolicy: optional(
    {
      name: "BLACKTREE_ECR_LIFECYCLE_POLICY_FILE",
      description: "JSON file with the lifecycle policy of created repositories",
    },
    lifecyclePolicyFile,
  ),
  ecrRepositoryTags: optional(
    {
      name: "BLACKTREE_ECR_REPOSITORY_TAGS",
      description: "AWS tags of created repositories, key=value, comma separated",
    },
    repositoryTags,
  ),
  registryAuths: optional(
    {
      name: REGISTRY_AUTH,
      description: "file with logins for pulling base images, in the format of docker's config.json",
    },
    registryAuthFile,
  ),
  registry: optional(
    {
      name: "BLACKTREE_REGISTRY",
      description: "push all jobs to this registry instead of ECR: host, host:port or URL",
    },
    parse.matching(REGISTRY_PATTERN, "host, host:port or URL"),
  ),
  registryUsername: optional(
    { name: "BLACKTREE_REGISTRY_USERNAME", description: "user name for BLACKTREE_REGISTRY" },
    parse.text,
  ),
  registryPassword: optional(
    {
      name: "BLACKTREE_REGISTRY_PASSWORD",
      description: "password for BLACKTREE_REGISTRY",
      secrecy: "secret",
    },
    parse.text,
  ),
};

export type RegistrySettings = SettingValues<typeof registrySettings>;

/** Reports settings that would have no effect. */
export function checkRegistry(values: Partial<RegistrySettings>): SettingProblem[] {
  const problem = (key: keyof RegistrySettings, value: string | undefined, expected: string) => ({
    name: registrySettings[key].name,
    value,
    wrong: value === undefined ? "is not set" : "has no effect",
    expected,
  });
  const problems: SettingProblem[] = [];
  if (!values.ecrCreateRepository) {
    const expected = "BLACKTREE_ECR_CREATE_REPOSITORY=true as well";
    for (const [key, value] of newRepositorySettings(values)) problems.push(problem(key, value, expected));
  }
  if (values.ecrExternalId !== undefined && values.ecrRoleArn === undefined)
    problems.push(problem("ecrExternalId", "***", "BLACKTREE_ECR_ROLE_ARN as well"));
  const ofJobsAccount = values.ecrBaseRepositories?.filter((base) => base.registry === undefined) ?? [];
  if (ofJobsAccount.length > 0 && values.ecrRoleArn === undefined) {
    const names = ofJobsAccount.map(({ name }) => name).join(",");
    problems.push(
      problem("ecrBaseRepositories", names, "BLACKTREE_ECR_ROLE_ARN as well, or names with a registry"),
    );
  }
  const { registry, registryUsername, registryPassword } = values;
  if (registry !== undefined && (registryUsername === undefined) !== (registryPassword === undefined)) {
    const missing = registryUsername === undefined ? "registryUsername" : "registryPassword";
    problems.push(problem(missing, undefined, "user name and password together, or neither"));
  }
  return problems;
}

/** Settings of created repositories that differ from their defaults. */
function newRepositorySettings(values: Partial<RegistrySettings>): [keyof RegistrySettings, string][] {
  const given: [keyof RegistrySettings, string][] = [];
  if (values.ecrScanOnPush) given.push(["ecrScanOnPush", "true"]);
  if (values.ecrTagMutability === "IMMUTABLE") given.push(["ecrTagMutability", "IMMUTABLE"]);
  if (values.ecrTagExclusions) given.push(["ecrTagExclusions", values.ecrTagExclusions.join(",")]);
  if (values.ecrLifecyclePolicy !== undefined) given.push(["ecrLifecyclePolicy", "a lifecycle policy"]);
  if (values.ecrRepositoryTags) {
    const pairs = Object.entries(values.ecrRepositoryTags).map(([key, value]) => `${key}=${value}`);
    given.push(["ecrRepositoryTags", pairs.join(",")]);
  }
  return given;
}

/** `cacheRepository` is the template of BLACKTREE_CACHE_REPO. */
type AuthenticatorSettings = RegistrySettings & { readonly cacheRepository?: string };

export function registryAuthenticator(settings: AuthenticatorSettings): RegistryAuthenticator {
  const { registry, registryUsername: username, registryPassword: password } = settings;
  if (registry !== undefined) {
    const credentials = username !== undefined && password !== undefined ? { username, password } : undefined;
    return new StaticRegistryAuthenticator({ registry, credentials });
  }
  return new EcrAuthenticator({
    role: roleOf(settings),
    newRepository: settings.ecrCreateRepository
      ? {
          scanOnPush: settings.ecrScanOnPush,
          tagMutability: settings.ecrTagMutability,
          tagExclusions: settings.ecrTagExclusions ?? [],
          lifecyclePolicy: settings.ecrLifecyclePolicy,
          tags: settings.ecrRepositoryTags ?? {},
        }
      : undefined,
  });
}

function roleOf(settings: AuthenticatorSettings): EcrRole | undefined {
  const { ecrRoleArn: arnTemplate, ecrExternalId: externalId, cacheRepository } = settings;
  const { ecrBaseRepositories: baseRepositories } = settings;
  return arnTemplate === undefined
    ? undefined
    : { arnTemplate, externalId, cacheRepository, baseRepositories };
}

/** Of two sources with a login for the same registry, the first counts. */
export function baseLoginSources(
  settings: AuthenticatorSettings,
  worker: Pick<RegistryAuthFileOptions, "environment" | "logger">,
): readonly BaseLoginSource[] {
  const { registryAuths, ecrBaseRepositories: repositories = [] } = settings;
  return [
    ...(registryAuths ? [new RegistryAuthFile({ ...registryAuths, ...worker })] : []),
    new EcrBaseRegistries({ role: roleOf(settings), repositories }),
  ];
}

/** Build settings that `blacktree-worker` and `blacktree up` share. */
import * as parse from "../../shared/settings/parsers.ts";
import { optional, type Parser, withDefault } from "../../shared/settings/settings.ts";
import { BUILD_NETWORKS } from "../buildkit/builder.ts";
import { builderLocation } from "../buildkit/builders/location.ts";
import { CACHE_SHARING } from "../buildkit/cache-scope.ts";
import { TOKEN_SCOPES } from "../git/credentials.ts";
import { TENANT_PLACEHOLDER } from "../registry/cache-repository.ts";
import { cgroupPath } from "./build-cgroup.ts";
import { gitUsers } from "./git-users.ts";
import { reuseKeys } from "./reuse-key.ts";

const REPOSITORY_PATTERN = /^(?=.{2,256}$)[a-z0-9]+([._/-]+[a-z0-9]+)*$/;

/** `{tenant}` stands for the job's tenant. */
const cacheRepository: Parser<string> = (raw) => {
  const expected =
    "a repository name: lower case letters, digits, . _ - and /; {tenant} stands for the tenant";
  parse.matching(REPOSITORY_PATTERN, expected)(raw.replaceAll(TENANT_PLACEHOLDER, "tenant"));
  return raw;
};

export const buildSettings = {
  builder: withDefault(
    {
      name: "BLACKTREE_BUILDER",
      description: "which BuildKit builds: engine, container, or the unix:// or tcp:// address of one",
    },
    builderLocation,
    "engine",
  ),
  builderOptions: withDefault(
    {
      name: "BLACKTREE_BUILDER_OPTIONS",
      description:
        "buildx driver options for a BuildKit that is not the engine's: name=value, comma separated",
    },
    parse.commaSeparated(parse.matching(/^[A-Za-z0-9_.-]+=.+$/, "name=value")),
    "",
  ),
  checkoutCacheBytes: withDefault(
    {
      name: "BLACKTREE_MIRROR_SIZE",
      description: "disk space for cached checkouts, which later runs reuse; 0 keeps none",
    },
    parse.size,
    "10GB",
  ),
  gitTimeoutMs: withDefault(
    { name: "BLACKTREE_GIT_TIMEOUT", description: "time limit of cloning, including submodules and LFS" },
    parse.duration(1000, 86_400_000),
    "10m",
  ),
  gitSilenceTimeoutMs: withDefault(
    {
      name: "BLACKTREE_GIT_SILENCE_TIMEOUT",
      description: "how long a git server may send nothing before the clone is tried again",
    },
    parse.duration(1000, 86_400_000),
    "2m",
  ),
  gitUsers: optional(
    {
      name: "BLACKTREE_GIT_USER",
      description: "user names that git hosts expect beside a git_token, host=user, comma separated",
      computedDefault:
        "gitlab.com=oauth2, bitbucket.org=x-token-auth; x-access-token for github.com and all others",
    },
    gitUsers,
  ),
  gitTokenScope: withDefault(
    {
      name: "BLACKTREE_GIT_TOKEN_SCOPE",
      description:
        "what a job's git_token is used for: repository (only the job's) or owner (also submodules with the same host and owner)",
    },
    parse.oneOf(...TOKEN_SCOPES),
    "repository",
  ),
  repositoryBytes: withDefault(
    {
      name: "BLACKTREE_REPOSITORY_LIMIT",
      description: "size limit of a job's repository, including files, submodules and LFS; 0 for no limit",
    },
    parse.size,
    "10GB",
  ),
  submodules: withDefault(
    {
      name: "BLACKTREE_SUBMODULE_LIMIT",
      description: "upper bound of a repository's submodules, including those of submodules",
    },
    parse.integer(0, 100_000),
    "1000",
  ),
  submoduleDeclarations: withDefault(
    {
      name: "BLACKTREE_SUBMODULE_DECLARATION_LIMIT",
      description: "upper bound of the submodules that one .gitmodules file declares",
    },
    parse.integer(0, 1_000_000),
    "10000",
  ),
  gitSettingsFileBytes: withDefault(
    {
      name: "BLACKTREE_GIT_SETTINGS_FILE_LIMIT",
      description: "size limit of one .gitattributes, .gitmodules or .lfsconfig file of a repository",
    },
    parse.size,
    "1MB",
  ),
  buildNetwork: withDefault(
    {
      name: "BLACKTREE_BUILD_NETWORK",
      description: "network of builds, their RUN steps and ADD: default (the engine's) or none",
    },
    parse.oneOf(...BUILD_NETWORKS),
    "default",
  ),
  buildCgroup: optional(
    {
      name: "BLACKTREE_BUILD_CGROUP",
      description:
        "control group that RUN steps run in; its limits apply to their memory, CPUs and processes",
    },
    cgroupPath,
  ),
  cacheRepository: optional(
    {
      name: "BLACKTREE_CACHE_REPO",
      description:
        "repository with mutable tags, in the registry of each job, that stores the build cache; {tenant} is replaced by the job's tenant",
    },
    cacheRepository,
  ),
  cacheSharing: withDefault(
    {
      name: "BLACKTREE_CACHE_SHARING",
      description: "which builds share the build cache: all, or only those of one tenant",
    },
    parse.oneOf(...CACHE_SHARING),
    "all",
  ),
  reuseKeys: optional(
    {
      name: "BLACKTREE_REUSE_KEY",
      description:
        "key of the HMAC labels that prove which images Blacktree built, the same for all workers: 64 or more hex digits",
      secrecy: "secret",
    },
    reuseKeys,
  ),
  diskReserveBytes: withDefault(
    {
      name: "BLACKTREE_DISK_RESERVE",
      description: "minimum free disk space for a new job, on the disks that the worker and Docker write to",
    },
    parse.size,
    "2GB",
  ),
  inodeReserve: withDefault(
    { name: "BLACKTREE_INODE_RESERVE", description: "minimum free inodes for a new job, on the same disks" },
    parse.integer(0, 1_000_000_000),
    "10000",
  ),
  logLimitBytes: withDefault(
    {
      name: "BLACKTREE_LOG_LIMIT",
      description: "size of a run's log above which only its last lines are kept",
    },
    parse.size,
    "64MB",
  ),
};

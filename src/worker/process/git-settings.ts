/**
 * Git's settings for every child process of a run: any program may start git, also in a folder that a repository has
 * filled. Git takes such a folder for a repository when it looks like a bare one, and a repository's configuration can
 * name programs to run. Git's configuration is in variables, because an argument list is public.
 */

export type GitConfig = readonly (readonly [key: string, value: string])[];

export const COMMON_GIT_CONFIG: GitConfig = [
  // Only a folder that is called .git, or that GIT_DIR names, is a repository.
  ["safe.bareRepository", "explicit"],
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
  ["core.logAllRefUpdates", "false"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["advice.detachedHead", "false"],
  ["protocol.allow", "never"],
  // As many as there are cores.
  ["checkout.workers", "0"],
];

/** The host's configuration may have credentials and helpers that are not for this job. */
const NO_OTHER_CONFIG = {
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
};

/** For commands that must not reach any server, even in a partial clone. */
export const LOCAL_GIT_SETTINGS = gitSettings(COMMON_GIT_CONFIG, []);

/** Without a setting that a repository's configuration could replace. */
export function gitSettings(
  config: GitConfig,
  protocols: readonly string[],
): Readonly<Record<string, string>> {
  const variables: Record<string, string> = {
    ...NO_OTHER_CONFIG,
    // A repository can set `protocol.<name>.allow`, which precedes `protocol.allow`; this variable precedes both.
    GIT_ALLOW_PROTOCOL: protocols.length > 0 ? protocols.join(":") : "none",
    GIT_NO_LAZY_FETCH: "1",
    GIT_CONFIG_COUNT: String(config.length),
  };
  for (const [index, [key, value]] of config.entries()) {
    variables[`GIT_CONFIG_KEY_${index}`] = key;
    variables[`GIT_CONFIG_VALUE_${index}`] = value;
  }
  return variables;
}

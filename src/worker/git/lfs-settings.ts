/** The settings of .lfsconfig that git-lfs accepts from a repository, as far as they concern a download. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { StepFailure } from "../job/failure.ts";
import { pathPatterns } from "./lfs-path-pattern.ts";
import type { GitName } from "./names.ts";
import { readSettingsFile } from "./settings-file.ts";
import type { Superproject } from "./submodules.ts";

export interface LfsSettings {
  /** The URL of the LFS API. */
  readonly url: string;
  /** By lfs.fetchinclude and lfs.fetchexclude. */
  isWanted(path: GitName): boolean;
}

const KEYS = "^(lfs\\.(url|gitprotocol|fetchinclude|fetchexclude)|remote\\.(lfsdefault|.*\\.lfsurl))$";
const CLONE_REMOTE = "origin";

export async function lfsSettings(filled: Superproject): Promise<LfsSettings> {
  const settings = new Map<string, string>();
  // The last value of a key counts, as for git.
  await readSettingsFile(filled.copy, ".lfsconfig", KEYS, (key, value) => settings.set(key, value));
  const included = pathPatterns(settings.get("lfs.fetchinclude") ?? "");
  const excluded = pathPatterns(settings.get("lfs.fetchexclude") ?? "");
  return {
    url: await endpoint(filled, settings),
    isWanted: (path) =>
      (included?.some((pattern) => pattern.test(path)) ?? true) &&
      !excluded?.some((pattern) => pattern.test(path)),
  };
}

async function endpoint(filled: Superproject, settings: ReadonlyMap<string, string>): Promise<string> {
  for (const key of ["lfs.url", ...(await remotesOf(filled, settings))]) {
    const value = settings.get(key);
    if (value !== undefined)
      return declaredUrl(key, textOf(value), settings.get("lfs.gitprotocol") ?? "https");
  }
  return `${filled.url.replace(/\.git$/, "")}.git/info/lfs`;
}

/** A branch of a clone has the remote "origin"; remote.lfsdefault counts without a branch. */
async function remotesOf(
  { copy }: Superproject,
  settings: ReadonlyMap<string, string>,
): Promise<readonly string[]> {
  const hasBranch = (await readFile(join(copy.gitFolder, "HEAD"), "utf8")).startsWith("ref: ");
  const remotes = [...(hasBranch ? [] : [settings.get("remote.lfsdefault") ?? CLONE_REMOTE]), CLONE_REMOTE];
  return remotes.map((remote) => `remote.${remote}.lfsurl`);
}

/** @throws StepFailure without the value, which may contain a password. */
function declaredUrl(key: string, value: string, gitProtocol: string): string {
  const text = value.trim().replace(/^git(?=:\/\/)/, gitProtocol);
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol))
    throw refused(`the ${key} of .lfsconfig is not an http or https URL; other URLs are not supported`);
  if (url.username !== "" || url.password !== "")
    throw refused(`the ${key} of .lfsconfig contains a user name or a password; expected a URL without them`);
  return text.replace(/\/+$/, "");
}

function refused(message: string): StepFailure {
  return new StepFailure({ code: "UNSUPPORTED", step: "clone", message });
}

const textOf = (bytes: string) => Buffer.from(bytes, "latin1").toString("utf8");

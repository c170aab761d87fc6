/** The submodules that a commit's .gitmodules declares. The repository chooses all of its contents. */
import { isAllowedUrl } from "../../shared/repository-url.ts";
import { StepFailure } from "../job/failure.ts";
import type { GitName } from "./names.ts";
import type { GitAccess } from "./remote.ts";
import { readSettingsFile } from "./settings-file.ts";
import type { WorkingCopy } from "./working-copy.ts";

export interface Declaration {
  /** As declared; it may be relative. With one character for each byte, as `update`. */
  readonly url?: string;
  readonly update?: string;
}

const KEY = /^submodule\.(.*)\.(path|url|update)$/s;

/** By path; the last declaration of a path counts, as for git. */
export async function declaredSubmodules(copy: WorkingCopy): Promise<ReadonlyMap<GitName, Declaration>> {
  const declarations = new Map<string, Record<string, string>>();
  const pattern = "^submodule\\..*\\.(path|url|update)$";
  await readSettingsFile(copy, ".gitmodules", pattern, (setting, value) => {
    const [, name, key] = KEY.exec(setting) ?? [];
    if (name === undefined || key === undefined || isIgnored(name, key, value)) return;
    declarations.set(name, { ...declarations.get(name), [key]: value });
    copy.budget.checkDeclarations(declarations.size);
  });
  const byPath = new Map<GitName, Declaration>();
  for (const { path, ...declaration } of declarations.values())
    if (path !== undefined) byPath.set(path as GitName, declaration);
  return byPath;
}

/** Git ignores names that could lead out of a folder, and paths and URLs that could be read as options. */
function isIgnored(name: string, key: string, value: string): boolean {
  const isBadName = name === "" || name.split(/[/\\]/).includes("..");
  return isBadName || (key !== "update" && value.startsWith("-"));
}

/** @throws StepFailure when cloning from this URL is not allowed. */
export function submoduleUrl(declared: string, parentUrl: string, { allowed }: GitAccess): string {
  const isRelative = /^\.\.?\//.test(declared);
  const url = isRelative ? URL.parse(declared, `${parentUrl}/`) : URL.parse(declared);
  if (!url || !/^https?:$/.test(url.protocol))
    throw refused(`${declared} is not an http or https URL; other URLs are not supported`);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw refused("its URL must not have a user, password, query or fragment");
  if (!isAllowedUrl(url.href, allowed))
    throw refused(`${url.origin} is not one of the hosts in BLACKTREE_GIT_ALLOWED_HOSTS`);
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

export function refused(message: string): StepFailure {
  return new StepFailure({ code: "UNSUPPORTED", step: "clone", message });
}

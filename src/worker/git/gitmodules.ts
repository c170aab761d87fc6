/** The submodules that a commit's .gitmodules declares. The repository chooses all of its contents. */
import { isAllowedUrl } from "../../shared/repository-url.ts";
import { StepFailure } from "../job/failure.ts";
import type { GitAccess } from "./remote.ts";
import type { WorkingCopy } from "./working-copy.ts";

export interface Declaration {
  /** As declared; it may be relative. */
  readonly url?: string;
  readonly update?: string;
}

/** By path; the first declaration of a path counts. Reads the blob, since the file could be a symlink. */
export async function declaredSubmodules(
  copy: WorkingCopy,
  commit: string,
): Promise<ReadonlyMap<string, Declaration>> {
  const declarations = new Map<string, Record<string, string>>();
  // Without includes: they could name any file of this machine.
  const args = [
    "--no-includes",
    `--blob=${commit}:.gitmodules`,
    "--get-regexp",
    "^submodule\\..*\\.(path|url|update)$",
  ];
  await copy.remote.git.localInGroup(["config", ...args], copy.path, (line) => {
    const [, name, key, value] = /^submodule\.(.*)\.(path|url|update) (.*)$/.exec(line) ?? [];
    if (name === undefined || key === undefined || value === undefined) return;
    declarations.set(name, { ...declarations.get(name), [key]: value });
    copy.budget.checkDeclarations(declarations.size);
  });
  const byPath = new Map<string, Declaration>();
  for (const { path, ...declaration } of declarations.values())
    if (path !== undefined && !byPath.has(path)) byPath.set(path, declaration);
  return byPath;
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

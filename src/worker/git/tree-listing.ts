import { type CloneBudget, fileBytes } from "./budget.ts";

export interface Gitlink {
  readonly path: string;
  readonly commit: string;
}

const LINE = /^(\d+) \w+ ([0-9a-f]+) +(\d+|-)\t(.*)$/;
const GITLINK_MODE = "160000";

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  a: "\x07",
  b: "\b",
  v: "\v",
  f: "\f",
};

/** Git quotes names with quotes, backslashes and control characters (core.quotePath=false). */
export function unquoted(path: string): string {
  if (!path.startsWith('"')) return path;
  const meant = (code: string) =>
    /^\d/.test(code) ? String.fromCharCode(Number.parseInt(code, 8)) : (ESCAPES[code] ?? code);
  return path.slice(1, -1).replace(/\\([0-7]{3}|.)/g, (_, code: string) => meant(code));
}

/** The contents of a commit, from `git ls-tree -r -l`, known before any file is written. */
export class TreeListing {
  /** Disk space of the files. */
  sizeBytes = 0;
  /** The submodules' paths and commits. */
  readonly gitlinks: Gitlink[] = [];
  /** The paths of the .gitattributes files. */
  readonly attributeFiles: string[] = [];

  constructor(readonly budget: CloneBudget) {}

  readonly add = (line: string): void => {
    const [, mode, id = "", size, name = ""] = LINE.exec(line) ?? [];
    const path = unquoted(name);
    if (mode === GITLINK_MODE) return void this.gitlinks.push({ path, commit: id });
    if (/(^|\/)\.gitattributes$/.test(path)) this.attributeFiles.push(path);
    const bytes = fileBytes(Number(size));
    this.sizeBytes += bytes;
    this.budget.spend(bytes);
  };
}

import { type CloneBudget, fileBytes } from "./clone-budget.ts";

export interface Gitlink {
  readonly path: string;
  readonly commit: string;
}

const LINE = /^(\d+) \w+ ([0-9a-f]+) +(\d+|-)\t(.*)$/;
const GITLINK_MODE = "160000";

/** What a commit holds, from `git ls-tree -r -l`, known before any of it is written. */
export class TreeListing {
  /** Of the files, as they will lie on the disk. */
  sizeBytes = 0;
  /** Where submodules belong. */
  readonly gitlinks: Gitlink[] = [];
  /** The paths of the .gitattributes files. */
  readonly attributeFiles: string[] = [];

  constructor(readonly budget: CloneBudget) {}

  readonly add = (line: string): void => {
    const [, mode, id = "", size, path = ""] = LINE.exec(line) ?? [];
    if (mode === GITLINK_MODE) return void this.gitlinks.push({ path, commit: id });
    if (/(^|\/)\.gitattributes$/.test(path)) this.attributeFiles.push(path);
    const bytes = fileBytes(Number(size));
    this.sizeBytes += bytes;
    this.budget.spend(bytes);
  };
}

import { type CloneBudget, FOLDER_BYTES, fileBytes } from "./budget.ts";
import type { GitName } from "./names.ts";

export interface Gitlink {
  readonly path: GitName;
  readonly commit: string;
}

const ENTRY = /^(\d+) \w+ ([0-9a-f]+) +(\d+|-)\t(.*)$/s;
const GITLINK_MODE = "160000";
const FOLDER_MODE = "040000";
/** Linux allows no longer path. */
const MAX_PATH_BYTES = 4096;
/** Git reads these files itself, as a whole. */
const SETTINGS_FILE = /^(?:.*\/)?(\.gitattributes|\.gitmodules|\.lfsconfig)$/s;

/** The contents of a commit, from `git ls-tree -r -t -l -z`, known before any file is written. */
export class TreeListing {
  /** Disk space of the files and folders. */
  sizeBytes = 0;
  /** The submodules' paths and commits. */
  readonly gitlinks: Gitlink[] = [];
  /** The paths of the .gitattributes files. */
  readonly attributeFiles: GitName[] = [];

  constructor(readonly budget: CloneBudget) {}

  readonly add = (entry: string): void => {
    const [, mode, id, size, name = ""] = ENTRY.exec(entry) ?? [];
    // After a refusal git is being ended.
    if (id === undefined || this.budget.signal.aborted) return;
    const path = name as GitName;
    if (path.length > MAX_PATH_BYTES)
      this.budget.refuse(`it has a path of more than ${MAX_PATH_BYTES} bytes`);
    else if (mode === GITLINK_MODE) this.#addGitlink({ path, commit: id });
    else if (mode === FOLDER_MODE) this.#spend(FOLDER_BYTES);
    else this.#addFile(path, Number(size));
  };

  #addGitlink(gitlink: Gitlink): void {
    this.gitlinks.push(gitlink);
    this.budget.spendSubmodule();
    this.#spend(FOLDER_BYTES);
  }

  #addFile(path: GitName, sizeBytes: number): void {
    const settingsFile = SETTINGS_FILE.exec(path)?.[1];
    if (settingsFile !== undefined) this.budget.checkSettingsFile(path, sizeBytes);
    if (settingsFile === ".gitattributes") this.attributeFiles.push(path);
    this.#spend(fileBytes(sizeBytes));
  }

  #spend(bytes: number): void {
    this.sizeBytes += bytes;
    this.budget.spend(bytes);
  }
}

import { type CloneBudget, FOLDER_BYTES, fileBytes } from "./budget.ts";

export interface Gitlink {
  readonly path: string;
  readonly commit: string;
}

const LINE = /^(\d+) \w+ ([0-9a-f]+) +(\d+|-)\t(.*)$/;
const GITLINK_MODE = "160000";
const FOLDER_MODE = "040000";
/** Linux allows no longer path. */
const MAX_PATH_CHARS = 4096;
/** Git reads these files itself, as a whole. */
const SETTINGS_FILE = /^(?:.*\/)?(\.gitattributes|\.gitmodules|\.lfsconfig)$/s;

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

/** The contents of a commit, from `git ls-tree -r -t -l`, known before any file is written. */
export class TreeListing {
  /** Disk space of the files and folders. */
  sizeBytes = 0;
  /** The submodules' paths and commits. */
  readonly gitlinks: Gitlink[] = [];
  /** The paths of the .gitattributes files. */
  readonly attributeFiles: string[] = [];

  constructor(readonly budget: CloneBudget) {}

  readonly add = (line: string): void => {
    const [, mode, id, size, name = ""] = LINE.exec(line) ?? [];
    // Another line is a warning, or the rest of a line that was too long. After a refusal git is being ended.
    if (id === undefined || this.budget.signal.aborted) return;
    const path = unquoted(name);
    if (path.length > MAX_PATH_CHARS)
      this.budget.refuse(`it has a path of more than ${MAX_PATH_CHARS} characters`);
    else if (mode === GITLINK_MODE) this.#addGitlink({ path, commit: id });
    else if (mode === FOLDER_MODE) this.#spend(FOLDER_BYTES);
    else this.#addFile(path, Number(size));
  };

  #addGitlink(gitlink: Gitlink): void {
    this.gitlinks.push(gitlink);
    this.budget.spendSubmodule();
    this.#spend(FOLDER_BYTES);
  }

  #addFile(path: string, sizeBytes: number): void {
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

/** The inputs of the suite: a repository and a job's fields. Each is a test of its name. */
import type { ErrorCode } from "../../../src/shared/job.ts";
import { type CommitParts, type Entry, GitObjects, type ObjectFormat } from "./git-objects.ts";

/** The fields of a job that decide what is built. */
export interface BuildFields {
  readonly branch?: string;
  readonly commit?: string;
  readonly dockerfile?: string;
  readonly context?: string;
  readonly target?: string;
  readonly build_args?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly platforms?: readonly string[];
  readonly secrets?: Readonly<Record<string, string>>;
}

/** A difference on purpose. */
export interface Difference {
  readonly reason: string;
  /** The page and the words in it that document the difference. */
  readonly documented: { readonly page: string; readonly says: string };
  /** How each of the two ends. If both have built an image, the images differ. */
  readonly reference: "built" | "failed";
  readonly blacktree: "built" | ErrorCode;
}

export interface OddInput {
  readonly name: string;
  /** The files of the commit at the tip of `main`. */
  readonly files: readonly Entry[];
  readonly commit?: CommitParts;
  readonly objectFormat?: ObjectFormat;
  /** Adds objects to the repository, and returns all its refs; by default `main` alone. */
  readonly refs?: (objects: GitObjects, tip: string) => Readonly<Record<string, string>>;
  /** Other repositories beside this one, by their names: `../<name>` is the relative URL of a submodule. */
  readonly others?: Readonly<Record<string, readonly Entry[]>>;
  readonly fields?: BuildFields;
  /** The ref that the reference fetches, where `git clone --branch` does not accept the job's `branch`. */
  readonly fetched?: string;
  readonly differs?: Difference;
  /** Only the default check's inputs; the others run in the full check. */
  readonly inDefaultCheck?: boolean;
}

export interface Kind {
  readonly name: string;
  readonly inputs: readonly OddInput[];
}

type Path = Entry["path"];
type Content = Entry["content"];

export const file = (path: Path, content: Content = ""): Entry => ({ path, mode: "100644", content });
export const program = (path: Path, content: Content): Entry => ({ path, mode: "100755", content });
export const link = (path: Path, target: Content): Entry => ({ path, mode: "120000", content: target });
/** Git stores such a folder only if another program has written the tree. */
export const emptyFolder = (path: Path): Entry => ({ path, mode: "40000", content: "" });
export const submodule = (path: Path, commit: string): Entry => ({ path, mode: "160000", content: commit });

export function lfsFile(path: Path, content: string): Entry {
  const lfsContent = Buffer.from(content);
  return { ...file(path, lfsPointer(lfsContent)), lfsContent };
}

export function lfsPointer(content: Uint8Array): string {
  const oid = new Bun.CryptoHasher("sha256").update(content).digest("hex");
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${content.length}\n`;
}

/** A path of these bytes, one for each character. */
export const bytes = (characters: string): Uint8Array => Buffer.from(characters, "latin1");

export const lines = (...all: readonly string[]): string => all.map((line) => `${line}\n`).join("");

export const dockerfile = (...all: readonly string[]): Entry => file("Dockerfile", lines(...all));

/** The image contains all files of the repository. */
export const COPY_ALL = dockerfile("FROM scratch", "COPY . /");

/** An image with busybox as its shell, which the engine of the tests has. */
export const BASE = "busybox-base";

/** The id of the commit that a repository with these files alone has. */
export function commitOf(files: readonly Entry[]): string {
  const objects = new GitObjects();
  return objects.commit(objects.tree(files));
}

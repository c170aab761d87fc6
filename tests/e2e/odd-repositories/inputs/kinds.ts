import type { Kind } from "../input.ts";
import { ATTRIBUTES } from "./attributes.ts";
import { DOCKERFILES } from "./dockerfiles.ts";
import { DOCKERIGNORE } from "./dockerignore.ts";
import { FAILURES } from "./failures.ts";
import { BUILD_ARGS, LABELS_OF_JOBS, PLATFORMS } from "./fields.ts";
import { FILES } from "./files.ts";
import { GIT_FOLDERS } from "./git-folders.ts";
import { LFS } from "./lfs.ts";
import { LINKS } from "./links.ts";
import { NAMES } from "./names.ts";
import { COMMITS, REFS } from "./refs.ts";
import { SUBMODULES } from "./submodules.ts";

/** All inputs of the suite, by kind. */
export const KINDS: readonly Kind[] = [
  ...[FILES, NAMES, GIT_FOLDERS, LINKS, SUBMODULES, LFS, ATTRIBUTES],
  ...[DOCKERIGNORE, DOCKERFILES, BUILD_ARGS, LABELS_OF_JOBS, PLATFORMS, REFS, COMMITS, FAILURES],
];

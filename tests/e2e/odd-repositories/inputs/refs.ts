import type { GitObjects } from "../git-objects.ts";
import { COPY_ALL, commitOf, file, type Kind } from "../input.ts";

const FILES = [COPY_ALL, file("a", "a\n")];
const OTHER_FILES = [COPY_ALL, file("a", "another\n")];
const other = (objects: GitObjects) => objects.commit(objects.tree(OTHER_FILES));

const EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

export const REFS: Kind = {
  name: "versions",
  inputs: [
    {
      name: "a tag",
      files: FILES,
      refs: (_, tip) => ({ "refs/heads/main": tip, "refs/tags/v1": tip }),
      fields: { branch: "v1" },
    },
    {
      name: "an annotated tag",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/tags/v1": objects.tag("v1", tip) }),
      fields: { branch: "v1" },
    },
    {
      name: "a tag of a tag",
      files: FILES,
      refs: (objects, tip) => ({
        "refs/heads/main": tip,
        "refs/tags/v2": objects.tag("v2", objects.tag("v1", tip)),
      }),
      fields: { branch: "v2" },
      inDefaultCheck: true,
    },
    {
      name: "a tag of a tree",
      files: FILES,
      refs: (objects, tip) => ({
        "refs/heads/main": tip,
        "refs/tags/v1": objects.tag("v1", objects.tree(FILES)),
      }),
      fields: { branch: "v1" },
    },
    {
      name: "a tag of a file",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/tags/v1": objects.blob("x") }),
      fields: { branch: "v1" },
    },
    {
      name: "a branch and a tag of one name",
      files: FILES,
      refs: (objects, tip) => ({
        "refs/heads/main": tip,
        "refs/heads/x": tip,
        "refs/tags/x": other(objects),
      }),
      fields: { branch: "x" },
      inDefaultCheck: true,
    },
    {
      name: "a tag of the default branch's name",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/tags/main": other(objects) }),
    },
    {
      name: "a branch with slashes, dots and Unicode",
      files: FILES,
      refs: (_, tip) => ({ "refs/heads/main": tip, "refs/heads/feature/\u00fc.x@y/#1": tip }),
      fields: { branch: "feature/\u00fc.x@y/#1" },
    },
    {
      name: "a branch with shell characters",
      files: FILES,
      refs: (_, tip) => ({ "refs/heads/main": tip, "refs/heads/a;b|c&d'e\"f$(g)": tip }),
      fields: { branch: "a;b|c&d'e\"f$(g)" },
    },
    {
      name: "a branch named HEAD",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/heads/HEAD": other(objects) }),
      fields: { branch: "HEAD" },
    },
    {
      name: "a branch named as a commit's SHA",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, [`refs/heads/${commitOf(FILES)}`]: other(objects) }),
      fields: { branch: commitOf(FILES) },
      differs: {
        reason: "a job can name a commit in its branch",
        documented: { page: "docs/building.md", says: "40 or 64 hex digits are always a commit's id" },
        reference: "built",
        blacktree: "built",
      },
    },
    {
      name: "a branch that is named refs/heads/x",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/heads/refs/heads/x": other(objects) }),
      fields: { branch: "refs/heads/x" },
    },
    {
      name: "refs/heads/x for the branch x",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/heads/x": other(objects) }),
      fields: { branch: "refs/heads/x" },
      fetched: "refs/heads/x",
    },
    {
      name: "refs/tags/x for the tag x beside a branch",
      files: FILES,
      refs: (objects, tip) => ({
        "refs/heads/main": tip,
        "refs/heads/x": tip,
        "refs/tags/x": other(objects),
      }),
      fields: { branch: "refs/tags/x" },
      fetched: "refs/tags/x",
    },
    {
      name: "refs/pull/1/head",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/pull/1/head": other(objects) }),
      fields: { branch: "refs/pull/1/head" },
      fetched: "refs/pull/1/head",
    },
    {
      name: "refs/merge-requests/1/head",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/merge-requests/1/head": other(objects) }),
      fields: { branch: "refs/merge-requests/1/head" },
      fetched: "refs/merge-requests/1/head",
    },
    { name: "a branch that does not exist", files: FILES, fields: { branch: "absent" } },
    { name: "a branch in other case", files: FILES, fields: { branch: "MAIN" } },
    { name: "a repository without a branch", files: FILES, refs: () => ({}) },
    {
      name: "a repository without the default branch",
      files: FILES,
      refs: (_, tip) => ({ "refs/heads/other": tip }),
      fields: { branch: "other" },
    },
    {
      name: "a commit by its SHA",
      files: FILES,
      refs: (objects, tip) => ({
        "refs/heads/main": objects.commit(objects.tree(OTHER_FILES), { parents: [tip] }),
      }),
      fields: { commit: commitOf(FILES) },
    },
    {
      name: "a commit by its SHA in upper case",
      files: FILES,
      fields: { commit: commitOf(FILES).toUpperCase() },
    },
    { name: "a commit that does not exist", files: FILES, fields: { commit: "1".repeat(40) } },
    { name: "a SHA of a tree", files: FILES, fields: { commit: EMPTY_TREE } },
    {
      name: "a branch that names a tree",
      files: FILES,
      refs: (objects, tip) => ({ "refs/heads/main": tip, "refs/heads/tree": objects.tree(FILES) }),
      fields: { branch: "tree" },
    },
    {
      name: "a merge of three branches",
      files: FILES,
      refs: (objects, tip) => ({
        "refs/heads/main": objects.commit(objects.tree(OTHER_FILES), {
          parents: [tip, other(objects), objects.commit(objects.tree([]))],
        }),
      }),
    },
    {
      name: "a shallow history that the server does not have",
      files: FILES,
      refs: (objects) => ({
        "refs/heads/main": objects.commit(objects.tree(OTHER_FILES), { parents: ["2".repeat(40)] }),
      }),
      differs: {
        reason: "a worker fetches one commit, and needs no other",
        documented: { page: "docs/building.md", says: "earlier commits that the server lacks" },
        reference: "failed",
        blacktree: "built",
      },
    },
    { name: "a repository with SHA-256", files: FILES, objectFormat: "sha256" },
    {
      name: "1,000 branches and tags",
      files: FILES,
      refs: (_, tip) =>
        Object.fromEntries([
          ["refs/heads/main", tip],
          ...Array.from({ length: 1_000 }, (__, at) => [
            at % 2 ? `refs/heads/b${at}` : `refs/tags/t${at}`,
            tip,
          ]),
        ]),
    },
  ],
};

export const COMMITS: Kind = {
  name: "commits",
  inputs: [
    { name: "a commit without a message", files: FILES, commit: { message: "" } },
    {
      name: "a message that is not UTF-8",
      files: FILES,
      commit: { message: Buffer.from("\xe9\n", "latin1"), headers: "encoding ISO-8859-1\n" },
    },
    { name: "a message of 1 MB", files: FILES, commit: { message: "x".repeat(1_000_000) } },
    { name: "a message with control sequences", files: FILES, commit: { message: "\x1b[31m\r\x07\n" } },
    {
      name: "a signature and an unknown header",
      files: FILES,
      commit: {
        headers: "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\nunknown x\n",
      },
    },
    { name: "a time of 1970", files: FILES, commit: { seconds: 0 } },
    { name: "a time before 1970", files: FILES, commit: { seconds: -86_400 } },
    { name: "a time in the year 3000", files: FILES, commit: { seconds: 32_503_680_000 } },
    { name: "a time beyond all dates", files: FILES, commit: { seconds: 99_999_999_999_999 } },
  ],
};

import {
  COPY_ALL,
  commitOf,
  dockerfile,
  file,
  type Kind,
  lfsFile,
  lines,
  link,
  submodule,
} from "../input.ts";

const LIB = [file("lib.txt", "of the library\n")];
const OTHER = [file("other.txt", "of another one\n")];
const DOCKERFILE_LIB = [file("Dockerfile", "FROM scratch\nCOPY . /\n"), file("a", "a\n")];

const declared = (name: string, path: string, url = "../lib", ...more: readonly string[]) =>
  lines(`[submodule "${name}"]`, `\tpath = ${path}`, `\turl = ${url}`, ...more.map((line) => `\t${line}`));

const declaration = (...parts: Parameters<typeof declared>) => file(".gitmodules", declared(...parts));

const NESTED = [
  declaration("inner", "inner", "../other"),
  submodule("inner", commitOf(OTHER)),
  file("outer.txt", "x\n"),
];
const LFS_LIB = [
  file(".gitattributes", "*.bin filter=lfs\n"),
  lfsFile("a.bin", "content in LFS of a submodule\n"),
];
const ATTRIBUTES_LIB = [file(".gitattributes", "*.txt text eol=crlf\n"), file("a.txt", "one\ntwo\n")];
const LINK_LIB = [link("up", "../lib.txt"), link("file", "lib.txt"), ...LIB];

export const SUBMODULES: Kind = {
  name: "submodules",
  inputs: [
    {
      name: "a submodule",
      files: [COPY_ALL, declaration("lib", "lib"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
      inDefaultCheck: true,
    },
    {
      name: "a submodule in a submodule",
      files: [COPY_ALL, declaration("lib", "lib"), submodule("lib", commitOf(NESTED))],
      others: { lib: NESTED, other: OTHER },
    },
    {
      name: "two submodules of one repository",
      files: [
        COPY_ALL,
        file(".gitmodules", declared("one", "one") + declared("two", "deep/two")),
        submodule("one", commitOf(LIB)),
        submodule("deep/two", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a path with a space and Unicode",
      files: [COPY_ALL, declaration("l b", '"d \u00fc/l b"'), submodule("d \u00fc/l b", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a path that is a pattern",
      files: [COPY_ALL, declaration("x", '"[a]*"'), submodule("[a]*", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a name that is not the path",
      files: [COPY_ALL, declaration("some.name/with.dots", "lib"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a URL with .git and a slash at its end",
      files: [COPY_ALL, declaration("lib", "lib", "../lib.git/"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a URL with more dots than needed",
      files: [COPY_ALL, declaration("lib", "lib", "./../x/../lib"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: ".gitmodules with a BOM",
      files: [
        COPY_ALL,
        file(".gitmodules", `\ufeff${declared("lib", "lib")}`),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: ".gitmodules with CRLF",
      files: [
        COPY_ALL,
        file(".gitmodules", declared("lib", "lib").replaceAll("\n", "\r\n")),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: ".gitmodules without a line break at its end",
      files: [
        COPY_ALL,
        file(".gitmodules", declared("lib", "lib").trimEnd()),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: ".gitmodules with comments, upper case keys and continued lines",
      files: [
        COPY_ALL,
        file(".gitmodules", '# x\n; y\n[SubModule "lib"] PATH = li\\\nb ; z\n\tURL = "../lib" # w\n'),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: ".gitmodules that is not valid",
      files: [COPY_ALL, file(".gitmodules", "[submodule\n"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: ".gitmodules that is not valid, without a submodule",
      files: [COPY_ALL, file(".gitmodules", "[submodule\n")],
      differs: {
        reason: "the image needs no submodule",
        documented: {
          page: "docs/building.md",
          says: "`.gitmodules` is not read if the commit has no submodule",
        },
        reference: "failed",
        blacktree: "built",
      },
    },
    { name: "an empty .gitmodules", files: [COPY_ALL, file(".gitmodules", "")] },
    {
      name: "a declaration without a submodule",
      files: [
        COPY_ALL,
        file(".gitmodules", declared("lib", "lib") + declared("absent", "absent")),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a declaration for a folder of files",
      files: [COPY_ALL, declaration("lib", "lib"), file("lib/a", "a\n")],
      others: { lib: LIB },
    },
    {
      name: "a submodule that is declared twice",
      files: [
        COPY_ALL,
        file(".gitmodules", declared("one", "lib") + declared("two", "lib", "../other")),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB, other: OTHER },
    },
    {
      name: "one declaration with two URLs",
      files: [
        COPY_ALL,
        declaration("lib", "lib", "../other", "url = ../lib"),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB, other: OTHER },
    },
    {
      name: "a submodule with update = none",
      files: [
        COPY_ALL,
        declaration("lib", "lib", "../lib", "update = none"),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a submodule with update = rebase, a branch and a depth",
      files: [
        COPY_ALL,
        declaration(
          "lib",
          "lib",
          "../lib",
          "update = rebase",
          "branch = main",
          "shallow = true",
          "ignore = all",
          "fetchRecurseSubmodules = false",
        ),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a submodule with a command as update",
      files: [
        COPY_ALL,
        declaration("lib", "lib", "../lib", "update = !true"),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a gitlink without .gitmodules",
      files: [COPY_ALL, submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a gitlink that .gitmodules does not declare",
      files: [
        COPY_ALL,
        declaration("lib", "lib"),
        submodule("lib", commitOf(LIB)),
        submodule("other", commitOf(OTHER)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a declaration without a URL",
      files: [
        COPY_ALL,
        file(".gitmodules", '[submodule "lib"]\n\tpath = lib\n'),
        submodule("lib", commitOf(LIB)),
      ],
    },
    {
      name: "a repository that does not exist",
      files: [COPY_ALL, declaration("lib", "lib", "../absent"), submodule("lib", commitOf(LIB))],
    },
    {
      name: "a commit that its repository does not have",
      files: [COPY_ALL, declaration("lib", "lib"), submodule("lib", "1".repeat(40))],
      others: { lib: LIB },
    },
    {
      name: "a URL of another protocol",
      files: [
        COPY_ALL,
        declaration("lib", "lib", "git@127.0.0.1:x/lib.git"),
        submodule("lib", commitOf(LIB)),
      ],
    },
    {
      name: "a URL that is a local path",
      files: [COPY_ALL, declaration("lib", "lib", "/absent/lib"), submodule("lib", commitOf(LIB))],
    },
    {
      name: "a URL of a program",
      files: [COPY_ALL, declaration("lib", "lib", "ext::true"), submodule("lib", commitOf(LIB))],
    },
    {
      name: "a URL that is an option",
      files: [COPY_ALL, declaration("lib", "lib", "--upload-pack=true"), submodule("lib", commitOf(LIB))],
    },
    {
      name: "a path out of the repository",
      files: [COPY_ALL, declaration("lib", "../lib"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a name out of the repository",
      files: [COPY_ALL, declaration("../../x", "lib"), submodule("lib", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a path that is an option",
      files: [COPY_ALL, declaration("lib", "-x"), submodule("-x", commitOf(LIB))],
      others: { lib: LIB },
    },
    {
      name: "a submodule below a link",
      files: [
        COPY_ALL,
        declaration("lib", "linked/lib"),
        link("linked", "folder"),
        submodule("folder/lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
    {
      name: "a submodule with Git LFS",
      files: [COPY_ALL, declaration("lib", "lib"), submodule("lib", commitOf(LFS_LIB))],
      others: { lib: LFS_LIB },
    },
    {
      name: "a submodule with attributes, and attributes that do not apply to it",
      files: [
        COPY_ALL,
        file(".gitattributes", "* text eol=lf\nlib/a.txt -text\n"),
        declaration("lib", "lib"),
        submodule("lib", commitOf(ATTRIBUTES_LIB)),
      ],
      others: { lib: ATTRIBUTES_LIB },
    },
    {
      name: "a submodule with links",
      files: [
        COPY_ALL,
        declaration("lib", "lib"),
        submodule("lib", commitOf(LINK_LIB)),
        file("lib.txt", "root\n"),
      ],
      others: { lib: LINK_LIB },
    },
    {
      name: "a submodule that is the context",
      files: [
        declaration("lib", "lib"),
        submodule("lib", commitOf(DOCKERFILE_LIB)),
        file("Dockerfile", "FROM absent\n"),
      ],
      others: { lib: DOCKERFILE_LIB },
      fields: { context: "lib" },
    },
    {
      name: "a submodule that has the Dockerfile",
      files: [declaration("lib", "lib"), submodule("lib", commitOf(DOCKERFILE_LIB)), file("b", "b\n")],
      others: { lib: DOCKERFILE_LIB },
      fields: { dockerfile: "lib/Dockerfile" },
    },
    {
      name: "a submodule that the image does not contain",
      files: [
        dockerfile("FROM scratch", "COPY a /"),
        file("a", "a\n"),
        declaration("lib", "lib"),
        submodule("lib", commitOf(LIB)),
        file(".dockerignore", "lib\n"),
      ],
      others: { lib: LIB },
    },
    {
      name: "a submodule whose commit is not at the tip",
      files: [COPY_ALL, declaration("lib", "lib"), submodule("lib", commitOf(OTHER))],
      others: { lib: LIB },
    },
    {
      name: "the declaration of a submodule with an included file",
      files: [
        COPY_ALL,
        file(".gitmodules", `[include]\n\tpath = other\n${declared("lib", "lib")}`),
        file("other", '[submodule "lib"]\n\turl = ../other\n'),
        submodule("lib", commitOf(LIB)),
      ],
      others: { lib: LIB },
    },
  ],
};

/** Files that a checkout could mistake for git's own. */
import { bytes, COPY_ALL, file, type Kind, link, submodule } from "../input.ts";

const HOOK = "#!/bin/sh\nexit 1\n";

export const GIT_FOLDERS: Kind = {
  name: "files named like git's own",
  inputs: [
    {
      name: "a file in .git",
      files: [COPY_ALL, file(".git/config", "[core]\n\tfsmonitor = true\n")],
      inDefaultCheck: true,
    },
    { name: "a file named .git", files: [COPY_ALL, file(".git", "gitdir: /\n")] },
    {
      name: "a link named .git",
      files: [COPY_ALL, link(".git", "other"), file("other/HEAD", "ref: refs/heads/main\n")],
    },
    { name: "a file named .git in a folder", files: [COPY_ALL, file("sub/.git", "gitdir: ../other\n")] },
    { name: "a hook in .git of a folder", files: [COPY_ALL, file("sub/.git/hooks/post-checkout", HOOK)] },
    { name: ".git in upper case", files: [COPY_ALL, file(".GIT/config", "[core]\n")] },
    { name: "the short name of .git on Windows", files: [COPY_ALL, file("git~1/config", "[core]\n")] },
    { name: ".git with an invisible character", files: [COPY_ALL, file(".g\u200cit/config", "[core]\n")] },
    {
      name: ".git with a space and a dot",
      files: [COPY_ALL, file(".git /config", "x"), file("a/.git./x", "x")],
    },
    {
      name: ".git as a stream of a Windows file",
      files: [COPY_ALL, file(".git::$INDEX_ALLOCATION/config", "x")],
    },
    {
      name: "names that begin with .git",
      files: [
        COPY_ALL,
        file(".github/workflows/ci.yml", "x"),
        file(".gitignore", "*\n"),
        file(".gitx", "x"),
        file(".git-x/y", "x"),
        file("x.git/HEAD", "x"),
      ],
    },
    {
      name: "a folder that is a bare repository",
      files: [
        COPY_ALL,
        file("bare/HEAD", "ref: refs/heads/main\n"),
        file("bare/config", "[core]\n\tbare = true\n"),
        file("bare/objects/.keep"),
        file("bare/refs/.keep"),
      ],
    },
    {
      name: "the context is a bare repository",
      files: [
        file("bare/Dockerfile", "FROM scratch\nCOPY . /\n"),
        file("bare/HEAD", "ref: refs/heads/main\n"),
        file("bare/config", "[core]\n\tbare = true\n\tsshCommand = false\n"),
        file("bare/objects/.keep"),
        file("bare/refs/.keep"),
      ],
      fields: { context: "bare" },
    },
    { name: "a path with two dots", files: [COPY_ALL, file("a/../b", "x")] },
    { name: "a path with one dot", files: [COPY_ALL, file("./b", "x")] },
    { name: "a path with two slashes", files: [COPY_ALL, file("a//b", "x")] },
    { name: "an absolute path", files: [COPY_ALL, file("/b", "x")] },
    {
      name: ".gitmodules as a link",
      files: [COPY_ALL, link(".gitmodules", "other"), file("other", "[submodule]\n")],
    },
    {
      name: ".gitattributes as a link",
      files: [
        COPY_ALL,
        link(".gitattributes", "other"),
        file("other", "* text eol=crlf\n"),
        file("a", "a\n"),
      ],
    },
    {
      name: ".gitignore as a link that leads nowhere",
      files: [COPY_ALL, link(".gitignore", "absent"), file("a", "a\n")],
    },
    { name: ".gitattributes as a folder", files: [COPY_ALL, file(".gitattributes/a", "a\n")] },
    { name: ".gitmodules as a folder", files: [COPY_ALL, file(".gitmodules/a", "a\n")] },
    {
      name: "a file below a link to a folder",
      files: [COPY_ALL, link("a", "b"), file("a/x", "x"), file("b/y", "y")],
    },
    {
      name: "a file in .git with a name that is not UTF-8",
      files: [COPY_ALL, file(bytes(".git/\xff"), "x")],
    },
    { name: "a submodule at .git", files: [COPY_ALL, submodule(".git/modules/x", "1".repeat(40))] },
  ],
};

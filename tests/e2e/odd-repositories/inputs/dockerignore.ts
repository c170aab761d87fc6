import { bytes, COPY_ALL, file, type Kind, lines, link } from "../input.ts";

const FILES = [
  "a",
  "b.md",
  "c.txt",
  "dir/a",
  "dir/b.md",
  "dir/deep/a",
  "dir/deep/c.txt",
  "other/a",
  "#x",
  "!y",
  "sp ace",
].map((path) => file(path, `${path}\n`));
const ignoring = (...patterns: readonly string[]) => [
  COPY_ALL,
  ...FILES,
  file(".dockerignore", lines(...patterns)),
];
const APP = file("docker/app", "FROM scratch\nCOPY . /\n");

export const DOCKERIGNORE: Kind = {
  name: ".dockerignore",
  inputs: [
    {
      name: "exclusions, exceptions and comments",
      files: ignoring("# comment", "*.md", "dir/*", "!dir/deep", "dir/deep/a", "", "   "),
      inDefaultCheck: true,
    },
    { name: "everything but two files", files: ignoring("*", "!a", "!dir/deep/c.txt") },
    { name: "everything", files: ignoring("*") },
    { name: "everything, with two stars", files: ignoring("**") },
    {
      name: "two stars inside a pattern",
      files: ignoring("**/*.md", "dir/**/c.txt", "!**/b.md", "other/**"),
    },
    {
      name: "slashes at the start and end",
      files: ignoring("/a", "dir/deep/", "/other/", "./c.txt", "dir//b.md"),
    },
    { name: "patterns with dots", files: ignoring("dir/../a", "../a", ".", "./dir/./deep") },
    { name: "an exception of everything", files: ignoring("*", "!*") },
    { name: "an exception alone", files: ignoring("!a") },
    { name: "a lone exclamation mark", files: ignoring("!") },
    { name: "a pattern that is not valid", files: ignoring("[a") },
    { name: "sets and question marks", files: ignoring("[ab]", "dir/?.md", "[^a-c].txt", "dir/deep/[!x]") },
    {
      name: "escaped characters and leading spaces",
      files: ignoring("\\#x", "\\!y", "  c.txt  ", "sp\\ ace"),
    },
    { name: "a name with a space", files: ignoring("sp ace", "c.txt # no comment") },
    {
      name: "CRLF",
      files: [COPY_ALL, ...FILES, file(".dockerignore", "*.md\r\ndir/*\r\n!dir/deep\r\n")],
    },
    { name: "a BOM", files: [COPY_ALL, ...FILES, file(".dockerignore", "\ufeff*.md\na\n")] },
    {
      name: "a BOM and a comment",
      files: [COPY_ALL, ...FILES, file(".dockerignore", "\ufeff# comment\na\n")],
    },
    {
      name: "UTF-16",
      files: [COPY_ALL, ...FILES, file(".dockerignore", Buffer.from("\ufeffa\nb.md\n", "utf16le"))],
    },
    { name: "an empty file", files: [COPY_ALL, ...FILES, file(".dockerignore", "")] },
    { name: "no line break at its end", files: [COPY_ALL, ...FILES, file(".dockerignore", "*.md\na")] },
    {
      name: "a line of 70,000 bytes",
      files: [COPY_ALL, ...FILES, file(".dockerignore", `${"x".repeat(70_000)}\na\n`)],
    },
    {
      name: "20,000 patterns",
      files: [
        COPY_ALL,
        ...FILES,
        file(".dockerignore", Array.from({ length: 20_000 }, (_, at) => `x/${at}\n`).join("")),
      ],
    },
    {
      name: "names that are not ASCII",
      files: [
        COPY_ALL,
        file("\u00fc"),
        file("\u4e2d"),
        file("u\u0308"),
        file(".dockerignore", "\u00fc\n\u4e2d\n"),
      ],
    },
    {
      name: "a pattern that is not UTF-8",
      files: [COPY_ALL, ...FILES, file(".dockerignore", bytes("\xff\na\n"))],
    },
    { name: "the Dockerfile is ignored", files: ignoring("Dockerfile", ".dockerignore") },
    {
      name: "the Dockerfile in a folder is ignored",
      files: [APP, ...FILES, file(".dockerignore", "docker\n")],
      fields: { dockerfile: "docker/app" },
    },
    { name: ".git is ignored", files: ignoring(".git", "**/.git*") },
    {
      name: "an ignore file of the Dockerfile",
      files: [COPY_ALL, ...FILES, file(".dockerignore", "a\n"), file("Dockerfile.dockerignore", "*.md\n")],
    },
    {
      name: "an empty ignore file of the Dockerfile",
      files: [COPY_ALL, ...FILES, file(".dockerignore", "a\n"), file("Dockerfile.dockerignore", "")],
    },
    {
      name: "an ignore file of a Dockerfile in a folder",
      files: [APP, ...FILES, file(".dockerignore", "a\n"), file("docker/app.dockerignore", "*.md\n")],
      fields: { dockerfile: "docker/app" },
    },
    {
      name: "an ignore file in the Dockerfile's folder, which has no effect",
      files: [APP, ...FILES, file("docker/.dockerignore", "a\n")],
      fields: { dockerfile: "docker/app" },
    },
    {
      name: "an ignore file in the root, which has no effect on another context",
      files: [file("dir/Dockerfile", "FROM scratch\nCOPY . /\n"), ...FILES, file(".dockerignore", "a\n")],
      fields: { context: "dir" },
    },
    {
      name: "an ignore file in a context",
      files: [file("dir/Dockerfile", "FROM scratch\nCOPY . /\n"), ...FILES, file("dir/.dockerignore", "a\n")],
      fields: { context: "dir" },
    },
    {
      name: "an ignore file of a Dockerfile with a lower case name",
      files: [
        file("dockerfile", "FROM scratch\nCOPY . /\n"),
        ...FILES,
        file("dockerfile.dockerignore", "a\n"),
        file("Dockerfile.dockerignore", "b.md\n"),
      ],
    },
    { name: "a folder named .dockerignore", files: [COPY_ALL, ...FILES, file(".dockerignore/a", "a\n")] },
    {
      name: "the ignore file of the Dockerfile is a link",
      files: [COPY_ALL, ...FILES, link("Dockerfile.dockerignore", "patterns"), file("patterns", "*.md\n")],
    },
    {
      name: "a link that is ignored",
      files: [COPY_ALL, link("linked", "dir"), ...FILES, file(".dockerignore", "linked\n")],
    },
    {
      name: "a pattern below a link",
      files: [COPY_ALL, link("linked", "dir"), ...FILES, file(".dockerignore", "linked/a\n")],
    },
    {
      name: "COPY of an ignored file",
      files: [file("Dockerfile", "FROM scratch\nCOPY a /\n"), file("a", "a"), file(".dockerignore", "a\n")],
    },
  ],
};

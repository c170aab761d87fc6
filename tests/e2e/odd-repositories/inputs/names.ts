import { bytes, COPY_ALL, dockerfile, file, type Kind, link, program } from "../input.ts";

/** One file for each name. */
const named = (...names: readonly string[]) =>
  names.map((name) => file(name, `content of ${JSON.stringify(name)}\n`));

export const NAMES: Kind = {
  name: "names",
  inputs: [
    {
      name: "names with a line break, quotes, a backslash and a leading dash",
      files: [
        COPY_ALL,
        ...named(
          "line\nbreak",
          "tab\tname",
          '"quoted"',
          "'single'",
          "back\\slash",
          "-dash",
          "--upload-pack=x",
        ),
      ],
      inDefaultCheck: true,
    },
    {
      name: "names with bytes that are not UTF-8",
      files: [COPY_ALL, file(bytes("latin-\xe9"), "x\n"), file("plain", "y\n")],
    },
    {
      name: "names with bytes that are not UTF-8, of files that the image does not contain",
      files: [
        dockerfile("FROM scratch", "COPY plain /"),
        file(bytes("latin-\xe9"), "x\n"),
        file("plain", "y\n"),
        file(".dockerignore", "latin*\n"),
      ],
    },
    { name: "a folder whose name is not UTF-8", files: [COPY_ALL, file(bytes("\xff\xfe/file"), "x\n")] },
    {
      name: "a name that is an overlong sequence of UTF-8",
      files: [COPY_ALL, file(bytes("\xc0\xaf"), "x\n")],
    },
    { name: "a name that is a surrogate in UTF-8", files: [COPY_ALL, file(bytes("\xed\xa0\x80"), "x\n")] },
    {
      name: "names that differ only in case",
      files: [COPY_ALL, ...named("README", "readme", "ReadMe", "dir/a", "DIR/a")],
    },
    {
      name: "names in composed and decomposed Unicode",
      files: [COPY_ALL, ...named("caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "A\u030a")],
    },
    {
      name: "names with emoji and other planes",
      files: [
        COPY_ALL,
        ...named("\u{1f600}", "\u{1f468}\u200d\u{1f469}", "\u{20000}", "\u4e2d\u6587/\u65e5\u672c"),
      ],
    },
    {
      name: "names with invisible and bidirectional characters",
      files: [COPY_ALL, ...named("a\u202eb", "a\u200bb", "\ufeffbom", "a\u00a0b", "\u2028")],
    },
    {
      name: "names with spaces and dots at their ends",
      files: [COPY_ALL, ...named(" leading", "trailing ", "dot.", "...", "..a", " ", "a  b")],
    },
    {
      name: "names with control characters",
      files: [COPY_ALL, ...named("\x01", "\x1b[31mred", "\x7f", "carriage\rreturn", "bell\x07")],
    },
    {
      name: "names with characters of patterns",
      files: [
        COPY_ALL,
        ...named(
          "*",
          "?",
          "[a]",
          "a*b",
          "{a,b}",
          "!a",
          "#a",
          "~",
          "$HOME",
          "%41",
          "a:b",
          "a;b",
          "a|b",
          "a&b",
          "`a`",
        ),
      ],
    },
    {
      name: "names of options",
      files: [COPY_ALL, ...named("-", "--", "-rf", "--file=x", "--output=type=local,dest=x", "-x/-y")],
    },
    {
      name: "COPY of names with spaces, quotes and variables",
      files: [
        dockerfile(
          "FROM scratch",
          'COPY ["a b", "c\\"d", "/to here/"]',
          "COPY \\$x /x",
          "ENV N=y",
          "COPY $N /z",
        ),
        ...named("a b", 'c"d', "$x", "y"),
      ],
    },
    {
      name: "COPY with patterns",
      files: [
        dockerfile("FROM scratch", "COPY *.txt dir?/ /", "COPY [ab] /x/", "COPY [[]a] /y/"),
        ...named("one.txt", "two.txt", "dir1/a", "dir2/b", "a", "b", "[a]"),
      ],
    },
    {
      name: "COPY of a pattern without a match",
      files: [dockerfile("FROM scratch", "COPY *.none /"), ...named("a")],
    },
    {
      name: "a file named as a device or a drive",
      files: [COPY_ALL, ...named("CON", "nul", "C:", "C:/x", "aux.txt", "LPT1")],
    },
    {
      name: "a file named like a volume option",
      files: [COPY_ALL, ...named("a,b", "a=b", "type=local", "src=a,dst=b")],
    },
    {
      name: "names that git escapes",
      files: [COPY_ALL, ...named("\u00fc", 'a"b', "a\\nb", "\\\\", "\\303\\274")],
    },
    {
      name: "an executable with a name in Unicode",
      files: [COPY_ALL, program("\u00e4/\u00f6", "x"), link("\u00fc", "\u00e4/\u00f6")],
    },
    {
      name: "a Dockerfile with a name in Unicode",
      files: [file("\u00e4 b/Dockerfile.\u00fc", "FROM scratch\nCOPY . /\n"), file("a", "a\n")],
      fields: { dockerfile: "\u00e4 b/Dockerfile.\u00fc" },
    },
    {
      name: "a context with a space, a quote and a comma",
      files: [file("a b',c/Dockerfile", "FROM scratch\nCOPY . /\n"), file("a b',c/x", "x\n")],
      fields: { context: "a b',c" },
      inDefaultCheck: true,
    },
    {
      name: "a context that looks like a URL",
      files: [file("git.example.com/Dockerfile", "FROM scratch\nCOPY . /\n")],
      fields: { context: "git.example.com" },
    },
    {
      name: "a context named as a git address",
      files: [file("git@host:x/Dockerfile", "FROM scratch\nCOPY . /\n"), file("git@host:x/a", "a")],
      fields: { context: "./git@host:x" },
    },
    {
      name: "a context with a number sign",
      files: [file("a#b/Dockerfile", "FROM scratch\nCOPY . /\n"), file("a#b/a", "a")],
      fields: { context: "a#b" },
    },
    {
      name: "a context that ends in a slash",
      files: [file("a/Dockerfile", "FROM scratch\nCOPY . /\n"), file("a/a", "a")],
      fields: { context: "a/" },
    },
    {
      name: "a context that is written with dots",
      files: [file("a/Dockerfile", "FROM scratch\nCOPY . /\n"), file("a/a", "a"), file("b/b", "b")],
      fields: { context: "./b/.././a/." },
    },
    {
      name: "a context that is written through a folder that does not exist",
      files: [file("a/Dockerfile", "FROM scratch\nCOPY . /\n"), file("a/a", "a")],
      fields: { context: "b/../a" },
    },
    {
      name: "a context that is a file",
      files: [file("a", "FROM scratch\n"), COPY_ALL],
      fields: { context: "a" },
    },
    { name: "a context in a folder that no file is in", files: [COPY_ALL], fields: { context: "absent" } },
    {
      name: "a Dockerfile outside the context",
      files: [file("docker/app", "FROM scratch\nCOPY . /\n"), file("src/a", "a")],
      fields: { context: "src", dockerfile: "docker/app" },
    },
    {
      name: "a Dockerfile with a name that ends in .git",
      files: [file("app.git", "FROM scratch\nCOPY . /\n")],
      fields: { dockerfile: "app.git" },
    },
    {
      name: "a Dockerfile named by a path with dots",
      files: [file("a/b", "FROM scratch\nCOPY . /\n")],
      fields: { dockerfile: "./a/../a/b" },
    },
    { name: "a Dockerfile that does not exist", files: [COPY_ALL], fields: { dockerfile: "absent" } },
    {
      name: "a Dockerfile below a file",
      files: [COPY_ALL, file("a", "a")],
      fields: { dockerfile: "a/Dockerfile" },
    },
    {
      name: "a Dockerfile with a lower case name",
      files: [file("dockerfile", "FROM scratch\nCOPY . /\n"), file("a", "a\n")],
    },
    {
      name: "a Dockerfile with a lower case name in a context",
      files: [file("app/dockerfile", "FROM scratch\nCOPY . /\n"), file("app/a", "a\n")],
      fields: { context: "app" },
    },
    { name: "Dockerfiles in upper and lower case", files: [COPY_ALL, file("dockerfile", "FROM absent\n")] },
    { name: "a Dockerfile with an upper case name", files: [file("DOCKERFILE", "FROM scratch\nCOPY . /\n")] },
    { name: "a Containerfile and no Dockerfile", files: [file("Containerfile", "FROM scratch\nCOPY . /\n")] },
  ],
};

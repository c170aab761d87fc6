import { COPY_ALL, dockerfile, file, type Kind, lines, link } from "../input.ts";

const attributes = (...all: readonly string[]) => file(".gitattributes", lines(...all));
const TEXTS = [
  file("lf.txt", "one\ntwo\n"),
  file("crlf.txt", "one\r\ntwo\r\n"),
  file("mixed.txt", "one\r\ntwo\nthree\r"),
];

export const ATTRIBUTES: Kind = {
  name: "attributes and filters",
  inputs: [
    {
      name: "eol=crlf",
      files: [COPY_ALL, attributes("*.txt text eol=crlf"), ...TEXTS],
    },
    {
      name: "eol=lf, text=auto and -text",
      files: [COPY_ALL, attributes("lf.txt eol=lf", "crlf.txt text=auto", "mixed.txt -text"), ...TEXTS],
    },
    {
      name: "text=auto with eol=crlf for text and for binary files",
      files: [COPY_ALL, attributes("* text=auto eol=crlf"), ...TEXTS, file("binary.txt", "a\n\0b\n")],
    },
    {
      name: "the crlf attribute of old versions",
      files: [COPY_ALL, attributes("lf.txt crlf", "crlf.txt -crlf", "mixed.txt crlf=input"), ...TEXTS],
    },
    {
      name: "ident",
      files: [
        COPY_ALL,
        attributes("*.txt ident"),
        file("a.txt", "$Id$\n$Id: old $\n$Id: two words $\n$Id\n"),
      ],
    },
    {
      name: "export-subst and export-ignore",
      files: [
        COPY_ALL,
        attributes("a.txt export-subst", "b.txt export-ignore"),
        file("a.txt", "$Format:%H$\n"),
        file("b.txt", "b\n"),
      ],
    },
    {
      name: "working-tree-encoding=UTF-16",
      files: [
        COPY_ALL,
        attributes("*.txt text working-tree-encoding=UTF-16"),
        file("a.txt", "text \u00fc\n"),
      ],
      inDefaultCheck: true,
    },
    {
      name: "working-tree-encoding of UTF-16LE-BOM, Latin 1 and Shift JIS",
      files: [
        COPY_ALL,
        attributes(
          "a.txt working-tree-encoding=UTF-16LE-BOM eol=crlf",
          "b.txt working-tree-encoding=ISO-8859-1",
          "c.txt working-tree-encoding=SHIFT-JIS",
        ),
        file("a.txt", "\u00fc\n"),
        file("b.txt", "\u00fc\n"),
        file("c.txt", "\u65e5\n"),
      ],
    },
    {
      name: "working-tree-encoding that does not exist",
      files: [COPY_ALL, attributes("a.txt working-tree-encoding=NO-SUCH"), file("a.txt", "\u00fc\n")],
    },
    {
      name: "working-tree-encoding that cannot write the text",
      files: [COPY_ALL, attributes("a.txt working-tree-encoding=ISO-8859-1"), file("a.txt", "\u65e5\n")],
    },
    {
      name: "working-tree-encoding of a text that is not UTF-8",
      files: [
        COPY_ALL,
        attributes("a.txt working-tree-encoding=UTF-16"),
        file("a.txt", Buffer.from([0xff, 0x41, 0x0a])),
      ],
    },
    {
      name: "working-tree-encoding without a value",
      files: [COPY_ALL, attributes("a.txt working-tree-encoding"), file("a.txt", "a\n")],
    },
    {
      name: "a filter that does not exist",
      files: [COPY_ALL, attributes("* filter=no-such"), file("a.txt", "a\n")],
    },
    {
      name: "a diff driver, a merge driver and whitespace rules",
      files: [
        COPY_ALL,
        attributes("* diff=no-such merge=no-such whitespace=fix linguist-vendored delta"),
        file("a.txt", "a \n"),
      ],
    },
    {
      name: ".gitattributes with a BOM",
      files: [COPY_ALL, file(".gitattributes", "\ufeff*.txt text eol=crlf\n"), ...TEXTS],
    },
    {
      name: ".gitattributes with CRLF",
      files: [
        COPY_ALL,
        file(".gitattributes", "*.txt text eol=crlf\r\n*.md ident\r\n"),
        ...TEXTS,
        file("a.md", "$Id$\n"),
      ],
    },
    {
      name: ".gitattributes with a line of 3,000 bytes",
      files: [COPY_ALL, attributes(`*.txt ${"x".repeat(3_000)} eol=crlf`, "lf.txt eol=crlf"), ...TEXTS],
    },
    {
      name: ".gitattributes with patterns",
      files: [
        COPY_ALL,
        attributes(
          '"a b.txt" eol=crlf',
          "/root.txt eol=crlf",
          "deep/** eol=crlf",
          "!x eol=crlf",
          "[a-c].md eol=crlf",
          "# comment",
        ),
        ...["a b.txt", "root.txt", "sub/root.txt", "deep/x/y", "b.md", "d.md"].map((path) =>
          file(path, "one\n"),
        ),
      ],
    },
    {
      name: ".gitattributes in folders",
      files: [
        COPY_ALL,
        attributes("*.txt eol=crlf"),
        file("sub/.gitattributes", "*.txt -text\n"),
        file("sub/deep/.gitattributes", "*.txt !text eol=crlf\n"),
        ...["a.txt", "sub/a.txt", "sub/deep/a.txt"].map((path) => file(path, "one\n")),
      ],
    },
    {
      name: "attributes of a folder that is a link",
      files: [
        COPY_ALL,
        link("linked", "sub"),
        file("sub/.gitattributes", "*.txt eol=crlf\n"),
        file("sub/a.txt", "one\n"),
      ],
    },
    {
      name: "the Dockerfile and .dockerignore with eol=crlf",
      files: [
        dockerfile("FROM scratch", "ENV A=b \\", "  C=d", "COPY . /"),
        attributes("* text eol=crlf"),
        file(".dockerignore", "ignored\n*.md\n"),
        file("ignored", "x\n"),
        file("a.md", "x\n"),
        file("b", "b\n"),
      ],
    },
    {
      name: "ident in the Dockerfile",
      files: [dockerfile("FROM scratch", 'LABEL id="$Id$"', "COPY . /"), attributes("Dockerfile ident")],
    },
    {
      name: "working-tree-encoding=UTF-16 for the Dockerfile",
      files: [COPY_ALL, attributes("Dockerfile text working-tree-encoding=UTF-16")],
    },
    {
      name: "all attributes together",
      files: [
        COPY_ALL,
        attributes("*.txt text eol=crlf ident export-subst working-tree-encoding=UTF-16LE"),
        file("a.txt", "$Id$ $Format:%H$\n"),
      ],
    },
    {
      name: "a macro that names itself",
      files: [COPY_ALL, attributes("[attr]one two", "[attr]two one eol=crlf", "*.txt one"), ...TEXTS],
    },
    {
      name: "settings of git in the repository",
      files: [
        COPY_ALL,
        file(".gitconfig", "[core]\n\tautocrlf = true\n"),
        file("config", "[core]\n\teol = crlf\n"),
        ...TEXTS,
      ],
    },
  ],
};

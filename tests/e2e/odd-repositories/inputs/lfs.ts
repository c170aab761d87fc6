import { COPY_ALL, file, type Kind, lfsFile, lfsPointer, lines, link, program } from "../input.ts";

const TRACKED = file(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
const CONTENT = "content in Git LFS\n";
const POINTER = lfsPointer(Buffer.from(CONTENT));

export const LFS: Kind = {
  name: "Git LFS",
  inputs: [
    {
      name: "files in Git LFS",
      files: [
        COPY_ALL,
        TRACKED,
        lfsFile("a.bin", CONTENT),
        lfsFile("deep/b.bin", "another\n"),
        file("c.txt", "c\n"),
      ],
      inDefaultCheck: true,
    },
    {
      name: "one object at two paths, one of them executable",
      files: [COPY_ALL, TRACKED, lfsFile("a.bin", CONTENT), { ...lfsFile("b.bin", CONTENT), mode: "100755" }],
    },
    {
      name: "names with spaces, quotes and Unicode",
      files: [
        COPY_ALL,
        TRACKED,
        lfsFile("a b.bin", "1"),
        lfsFile("\u00fc.bin", "2"),
        lfsFile("'q\".bin", "3"),
        lfsFile("-x.bin", "4"),
      ],
    },
    {
      name: "a file with the attribute, whose content is not a pointer",
      files: [COPY_ALL, TRACKED, file("a.bin", "not a pointer\n"), file("empty.bin", "")],
    },
    { name: "a pointer without the attribute", files: [COPY_ALL, file("a.bin", POINTER)] },
    { name: "a pointer to an empty file", files: [COPY_ALL, TRACKED, lfsFile("a.bin", "")] },
    {
      name: "a pointer with CRLF",
      files: [COPY_ALL, TRACKED, lfsFile("b.bin", CONTENT), file("a.bin", POINTER.replaceAll("\n", "\r\n"))],
    },
    {
      name: "a pointer without a line break at its end",
      files: [COPY_ALL, TRACKED, { ...lfsFile("a.bin", CONTENT), content: POINTER.trimEnd() }],
    },
    {
      name: "a pointer with more lines at its end",
      files: [COPY_ALL, TRACKED, { ...lfsFile("a.bin", CONTENT), content: `${POINTER}\n\n` }],
    },
    {
      name: "a pointer of the first version",
      files: [
        COPY_ALL,
        TRACKED,
        {
          ...lfsFile("a.bin", CONTENT),
          content: POINTER.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
        },
      ],
    },
    {
      name: "a pointer of the version of Hawser",
      files: [
        COPY_ALL,
        TRACKED,
        { ...lfsFile("a.bin", CONTENT), content: POINTER.replace("git-lfs.github.com", "hawser.github.com") },
      ],
    },
    {
      name: "a pointer with its lines in another order",
      files: [
        COPY_ALL,
        TRACKED,
        {
          ...lfsFile("a.bin", CONTENT),
          content: POINTER.split("\n")
            .slice(0, 3)
            .toSpliced(1, 2, ...POINTER.split("\n").slice(1, 3).toReversed())
            .join("\n"),
        },
      ],
    },
    {
      name: "a pointer with an unknown line",
      files: [
        COPY_ALL,
        TRACKED,
        { ...lfsFile("a.bin", CONTENT), content: POINTER.replace("size", "other x\nsize") },
      ],
    },
    {
      name: "a pointer with upper case digits",
      files: [
        COPY_ALL,
        TRACKED,
        {
          ...lfsFile("a.bin", CONTENT),
          content: POINTER.replace(/[0-9a-f]{64}/, (oid) => oid.toUpperCase()),
        },
      ],
    },
    {
      name: "a pointer with a wrong size",
      files: [
        COPY_ALL,
        TRACKED,
        { ...lfsFile("a.bin", CONTENT), content: POINTER.replace(/size \d+/, "size 7") },
      ],
      differs: {
        reason: "an LFS server stores an object with its size, and refuses another one",
        documented: {
          page: "docs/building.md",
          says: "a file with another size or sha256 than its pointer",
        },
        reference: "built",
        blacktree: "CLONE_FAILED",
      },
    },
    {
      name: "a pointer with a negative size",
      files: [
        COPY_ALL,
        TRACKED,
        { ...lfsFile("a.bin", CONTENT), content: POINTER.replace(/size \d+/, "size -7") },
      ],
    },
    {
      name: "a pointer with an object that the server does not have",
      files: [COPY_ALL, TRACKED, file("a.bin", lfsPointer(Buffer.from("absent")))],
    },
    {
      name: "a pointer that is longer than 1,024 bytes",
      files: [COPY_ALL, TRACKED, file("a.bin", `${POINTER}${"#".repeat(1_100)}\n`)],
    },
    { name: "a link whose target is a pointer", files: [COPY_ALL, TRACKED, link("a.bin", POINTER)] },
    {
      name: "an attribute in a folder, and exceptions",
      files: [
        COPY_ALL,
        file("deep/.gitattributes", lines("* filter=lfs", ".gitattributes !filter", "b.bin -filter")),
        lfsFile("deep/a.bin", CONTENT),
        file("deep/b.bin", POINTER),
        file("a.bin", POINTER),
      ],
    },
    {
      name: "an attribute by a macro",
      files: [
        COPY_ALL,
        file(".gitattributes", lines("[attr]large filter=lfs -text", "*.bin large")),
        lfsFile("a.bin", CONTENT),
      ],
    },
    {
      name: "an attribute for all files",
      files: [COPY_ALL, file(".gitattributes", "* filter=lfs\n"), lfsFile("a", CONTENT)],
    },
    {
      name: "the Dockerfile in Git LFS",
      files: [
        file(".gitattributes", "Dockerfile filter=lfs\n"),
        lfsFile("Dockerfile", "FROM scratch\nCOPY . /\n"),
      ],
    },
    {
      name: ".lfsconfig with fetchexclude",
      files: [
        COPY_ALL,
        TRACKED,
        file(".lfsconfig", "[lfs]\n\tfetchexclude = a.bin\n"),
        lfsFile("a.bin", CONTENT),
        lfsFile("b.bin", "other\n"),
      ],
    },
    {
      name: ".lfsconfig with fetchinclude",
      files: [
        COPY_ALL,
        TRACKED,
        file(".lfsconfig", "[lfs]\n\tfetchinclude = deep\n"),
        lfsFile("a.bin", CONTENT),
        lfsFile("deep/b.bin", "other\n"),
      ],
    },
    {
      name: ".lfsconfig that is not valid",
      files: [COPY_ALL, TRACKED, file(".lfsconfig", "[lfs\n"), lfsFile("a.bin", CONTENT)],
    },
    {
      name: "a file of 5 MB in Git LFS",
      files: [COPY_ALL, TRACKED, lfsFile("a.bin", "0123456789".repeat(500_000))],
    },
    {
      name: "200 files in Git LFS",
      files: [
        COPY_ALL,
        TRACKED,
        ...Array.from({ length: 200 }, (_, at) => lfsFile(`all/${at}.bin`, `content ${at}\n`)),
      ],
    },
    {
      name: "Git LFS together with an encoding and line ends",
      files: [
        COPY_ALL,
        file(".gitattributes", "*.bin filter=lfs text eol=crlf\n"),
        lfsFile("a.bin", "one\ntwo\n"),
        program("b.bin", "text\n"),
      ],
    },
  ],
};

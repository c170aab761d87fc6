import type { Entry } from "../git-objects.ts";
import { bytes, COPY_ALL, dockerfile, emptyFolder, file, type Kind, lines, link, program } from "../input.ts";

const numbered = (count: number, pathOf: (number: number) => string) =>
  Array.from({ length: count }, (_, number) => file(pathOf(number), `${number}\n`));

const deep = (levels: number) => `${"d/".repeat(levels)}file`;

/** Bytes that do not compress, the same in every run. */
function noise(length: number): Uint8Array {
  const content = new Uint8Array(length);
  let state = 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    content[at] = state >>> 24;
  }
  return content;
}

const withMode = (mode: string, path: string): Entry => ({ ...file(path, "text\n"), mode });

export const FILES: Kind = {
  name: "files and modes",
  inputs: [
    {
      name: "an executable file, a link and an empty file",
      files: [COPY_ALL, program("run.sh", "#!/bin/sh\n"), link("linked", "run.sh"), file("empty")],
      inDefaultCheck: true,
    },
    {
      name: "modes that only old versions of git have written",
      files: [
        COPY_ALL,
        ...["100664", "100600", "100775", "100700", "100777"].map((mode) => withMode(mode, mode)),
      ],
    },
    { name: "a tree with an empty folder", files: [COPY_ALL, emptyFolder("empty"), file("folder/.gitkeep")] },
    { name: "only empty files", files: [COPY_ALL, file("a"), file("b/c"), program("d", "")] },
    { name: "a commit without files", files: [] },
    { name: "a file of 30 MB that does not compress", files: [COPY_ALL, file("large", noise(30_000_000))] },
    { name: "a file of 100 MB of zeros", files: [COPY_ALL, file("zeros", new Uint8Array(100_000_000))] },
    { name: "a line of 8 MB", files: [COPY_ALL, file("line", "x".repeat(8_000_000))] },
    {
      name: "20,000 small files in one folder",
      files: [COPY_ALL, ...numbered(20_000, (number) => `all/${number}`)],
    },
    {
      name: "5,000 files in 5,000 folders",
      files: [COPY_ALL, ...numbered(5_000, (number) => `all/${number}/file`)],
    },
    { name: "folders 200 levels deep", files: [COPY_ALL, file(deep(200), "deep\n")] },
    { name: "folders 1,500 levels deep", files: [COPY_ALL, file(deep(1_500), "deep\n")] },
    { name: "a path longer than Linux allows", files: [COPY_ALL, file(deep(2_100), "deep\n")] },
    {
      name: "a file and a folder that differ in a dot",
      files: [COPY_ALL, file("a/b"), file("a.b"), file("a-b/c")],
    },
    {
      name: "binary content with every byte",
      files: [COPY_ALL, file("bytes", noise(4_096)), file("nul", "\0\0")],
    },
    {
      name: "files with names of programs that a build uses",
      files: [
        COPY_ALL,
        program("git", "x"),
        program("docker", "x"),
        program("docker-buildx", "x"),
        file(".docker/config.json", "{"),
      ],
    },
    {
      name: "settings files of other tools",
      files: [
        COPY_ALL,
        file("docker-bake.hcl", 'target "default" { output = ["type=local,dest=/"] }\n'),
        file("docker-compose.yml", "services: {}\n"),
        file(".env", "DOCKER_HOST=tcp://127.0.0.1:1\nBUILDKIT_PROGRESS=bad\n"),
        file("buildkitd.toml", "x"),
        file(".git-blame-ignore-revs", "x"),
        file(".mailmap", "x"),
      ],
    },
    {
      name: "an old file mode for the Dockerfile",
      files: [{ ...COPY_ALL, mode: "100755" }, file("a", "a\n")],
    },
    {
      name: "files that look like parts of an image's layer",
      files: [COPY_ALL, file("folder/.wh.file", "x"), file("folder/kept", "x"), file("manifest.json", "[]")],
    },
    {
      name: "the root of the context as one folder and as its content",
      files: [
        dockerfile("FROM scratch", "COPY . /one", "COPY folder /two", "COPY folder/ /three/"),
        file("folder/a", "a\n"),
      ],
    },
    {
      name: "a tree whose entries have leading zeros in their modes",
      files: [COPY_ALL, { ...file("a", "a\n"), mode: "0100644" }],
    },
    { name: "a folder named Dockerfile", files: [file("Dockerfile/file", lines("FROM scratch"))] },
    { name: "a fifo's mode in a tree", files: [COPY_ALL, withMode("010644", "fifo")] },
    { name: "a name of 255 bytes", files: [COPY_ALL, file("n".repeat(255), "long\n")] },
    { name: "a name of 256 bytes", files: [COPY_ALL, file("n".repeat(256), "long\n")] },
    {
      name: "two names of which one is the other with a bad byte",
      files: [COPY_ALL, file("a", "1"), file(bytes("a\xff"), "2")],
    },
  ],
};

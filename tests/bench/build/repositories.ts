/**
 * The repositories that are built: a small and a larger one, made from a seed. No base image may be available, so both
 * contain a static busybox. The last step of both reads every source file and writes their checksum into the image,
 * which proves afterwards that the image contains the right sources.
 */
import { createCipheriv, createHash } from "node:crypto";
import { type RepositoryFiles, staticBusybox } from "../../support/machine/sample-repository.ts";

export const SIZES = ["small", "large"] as const;
export type Size = (typeof SIZES)[number];

interface Shape {
  readonly folders: number;
  readonly filesPerFolder: number;
  readonly maxFileBytes: number;
  /** How many copies of the library are written, as dependencies that are installed before the sources are copied. */
  readonly dependencies: number;
}

const LIBRARY_BYTES = 2_000_000;
const SHAPES: Readonly<Record<Size, Shape>> = {
  small: { folders: 10, filesPerFolder: 30, maxFileBytes: 6000, dependencies: 0 },
  large: { folders: 100, filesPerFolder: 100, maxFileBytes: 2400, dependencies: 95 },
};

/** The checksum's file in the image. */
export const BUILT_FILE = "built";

export function describeSize(size: Size): string {
  const { folders, filesPerFolder, dependencies } = SHAPES[size];
  const layers = dependencies > 0 ? `, ${(dependencies * LIBRARY_BYTES) / 1e6} MB in a layer below them` : "";
  return `${folders * filesPerFolder} source files${layers}`;
}

/** Repositories of the same seed and different salts share only busybox's layer, in engines and in registries. */
export async function repositoryOf(size: Size, seed: string, salt: string): Promise<RepositoryFiles> {
  const { dependencies } = SHAPES[size];
  return {
    "bin/busybox": await staticBusybox(),
    Dockerfile: dockerfile(dependencies),
    salt: `${salt}\n`,
    ...(dependencies > 0 && { "assets/library": library(seed) }),
    ...sources(size, seed),
  };
}

/** New content for one of the source files; the number of the change selects the file. */
export function changeOf(files: RepositoryFiles, seed: string, number: number): RepositoryFiles {
  const paths = sourcePaths(files);
  const pick = createHash("sha256").update(`${seed} change ${number}`).digest().readUInt32BE();
  const path = paths[pick % paths.length];
  if (path === undefined) throw new Error("the repository has no source file to change");
  return { [path]: `${files[path]}changed for the ${number}. time\n` };
}

/** The content of BUILT_FILE after the image's last step. */
export function builtFrom(files: RepositoryFiles): string {
  const hash = createHash("sha256");
  for (const path of sourcePaths(files)) hash.update(files[path] ?? "");
  return hash.digest("hex");
}

function sourcePaths(files: RepositoryFiles): string[] {
  return Object.keys(files)
    .filter((path) => path.startsWith("src/"))
    .sort();
}

function dockerfile(dependencies: number): string {
  const install = [
    "COPY assets/library /assets/library",
    busyboxRun(
      `b=/bin/busybox; $b mkdir /deps; i=0; while [ $i -lt ${dependencies} ]; do $b cat /assets/library > /deps/$i; i=$((i+1)); done`,
    ),
  ];
  return [
    "FROM scratch",
    "COPY bin/busybox /bin/busybox",
    "COPY salt /salt",
    ...(dependencies > 0 ? install : []),
    "COPY src /src",
    busyboxRun(
      `b=/bin/busybox; $b find /src -type f | $b sort | $b xargs $b cat | $b sha256sum | $b cut -d ' ' -f 1 > /${BUILT_FILE}`,
    ),
    `CMD ["/bin/busybox", "cat", "/${BUILT_FILE}"]`,
    "",
  ].join("\n");
}

function busyboxRun(command: string): string {
  return `RUN ${JSON.stringify(["/bin/busybox", "sh", "-ec", command])}`;
}

/** Text that compresses as little as sources can; names have equal length, so that all sort orders agree. */
function sources(size: Size, seed: string): RepositoryFiles {
  const { folders, filesPerFolder, maxFileBytes } = SHAPES[size];
  const files: Record<string, string> = {};
  for (let folder = 100; folder < 100 + folders; folder++) {
    for (let file = 100; file < 100 + filesPerFolder; file++) {
      const path = `src/module-${folder}/source-${file}.txt`;
      files[path] = text(noise(`${seed} ${path}`, maxFileBytes));
    }
  }
  return files;
}

/** Between a quarter of the bytes and all of them, as base64 in lines. */
function text(bytes: Buffer): string {
  const share = 0.25 + (0.75 * bytes.readUInt32BE()) / 2 ** 32;
  const encoded = bytes.subarray(0, Math.floor(bytes.length * share)).toString("base64");
  return `${encoded.replace(/(.{76})/g, "$1\n")}\n`;
}

/** Random words: gzip reduces them to a third, as it does most programs and their texts. */
function library(seed: string): Buffer {
  const letters = noise(`${seed} words`, 8 * 1024).toString("hex");
  const choices = noise(`${seed} library`, LIBRARY_BYTES);
  const words: string[] = [];
  for (let at = 0, bytes = 0; bytes < LIBRARY_BYTES; at += 2) {
    const choice = choices.readUInt16BE(at);
    const start = (choice % 1024) * 16;
    const word = letters.slice(start, start + 4 + (choice % 9));
    words.push(word);
    bytes += word.length + 1;
  }
  return Buffer.from(words.join(" ")).subarray(0, LIBRARY_BYTES);
}

/** Incompressible bytes, the same ones for the same seed. */
function noise(seed: string, bytes: number): Buffer {
  const key = createHash("sha256").update(seed).digest();
  return createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}

/** Which files of a repository a build can read: ignore files and symbolic links. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { run } from "../../../support/machine/processes.ts";
import type { RepositoryFiles } from "../../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { type PipelineBench, startPipelineBench } from "../pipeline/pipeline-bench.ts";

const SECRET = `of the host ${crypto.randomUUID()}`;

let bench: PipelineBench;
let outside: TempDir;

beforeAll(async () => {
  outside = await makeTempDir("outside");
  await Bun.write(`${outside.path}/secret`, SECRET);
  await Bun.write(`${outside.path}/Dockerfile`, "FROM scratch\nCOPY . /\n");
  bench = await startPipelineBench({ engine: "26.1" });
});
afterAll(async () => {
  await bench?.stop();
  await outside.remove();
});

interface Tree {
  readonly files: RepositoryFiles;
  readonly symlinks?: Readonly<Record<string, string>>;
  readonly encoding?: "latin1";
}

async function runOf({ files, symlinks = {}, encoding }: Tree, job: Partial<PipelineJob> = {}) {
  const name = bench.unique("acme/paths");
  await bench.git.createRepository(name, { first: "commit" });
  await bench.git.commit(name, files, { symlinks, encoding, remove: ["first"] });
  const started = bench.start({ repoUrl: name, ...job });
  return { end: await started.end, log: started.lines.join("\n"), ...started.job };
}

/** The image's only layer, as `tar` lists it: each entry with its type and its link target. */
async function layerOf(tree: Tree, job: Partial<PipelineJob> = {}) {
  const { end, ecrRepo, deploymentVersion } = await runOf(tree, job);
  expect(end).toMatchObject({ status: "SUCCESS" });
  const manifest = await bench.registry.getManifest(ecrRepo, deploymentVersion);
  const layers = (manifest?.json.layers ?? []) as { digest: string }[];
  expect(layers).toHaveLength(1);
  const blob = await bench.registry.fetch(`/v2/${ecrRepo}/blobs/${layers[0]?.digest}`);
  const tar = Bun.gunzipSync(await blob.arrayBuffer());
  const { stdout } = await run(["tar", "--list", "--verbose"], { stdin: tar });
  const entries = stdout.trim().split("\n");
  const paths = entries.map((entry) => entry.split(/ \d\d:\d\d /)[1] ?? "");
  return { paths: paths.filter((path) => !path.startsWith(".git/")), text: new TextDecoder().decode(tar) };
}

const COPY_ALL = "FROM scratch\nCOPY . /\n";

test("a Dockerfile that is a symbolic link into the repository, or below a folder that is one, is built", async () => {
  const tree = {
    files: { "docker/Real": "FROM scratch\nCOPY one /\n", one: "1" },
    symlinks: { Dockerfile: "docker/Real", linked: "docker" },
  };
  expect((await layerOf(tree)).paths).toEqual(["one"]);
  expect((await layerOf(tree, { dockerfile: "linked/Real" })).paths).toEqual(["one"]);
});

test("a path that leads out of the repository is refused, and no content from there is logged", async () => {
  const tree = {
    files: { Dockerfile: COPY_ALL },
    symlinks: {
      outside: outside.path,
      Linked: `${outside.path}/Dockerfile`,
      Secret: `${outside.path}/secret`,
    },
  };
  for (const job of [
    { dockerfile: "Linked" },
    { dockerfile: "Secret" },
    { dockerfile: "outside/Dockerfile" },
    { context: "outside" },
    { context: "outside", dockerfile: "Dockerfile" },
  ]) {
    const { end, log, ecrRepo } = await runOf(tree, job);
    expect(end).toMatchObject({
      status: "FAILED",
      failure: { code: "INVALID_JOB", step: "build", retryable: false },
    });
    expect(log).not.toContain(SECRET);
    expect(await bench.registry.listTags(ecrRepo)).toEqual([]);
  }
});

test("a symbolic link in the context stays a link, and its target is not in the image", async () => {
  const links = { file: `${outside.path}/secret`, folder: outside.path, relative: "../../../../../../etc" };
  const { paths, text } = await layerOf({ files: { Dockerfile: COPY_ALL }, symlinks: links });
  for (const [name, target] of Object.entries(links)) expect(paths).toContain(`${name} -> ${target}`);
  expect(paths.filter((path) => path.startsWith("folder/"))).toEqual([]);
  expect(text).not.toContain(SECRET);
});

test("a link that is copied by its name does not lead out of the context", async () => {
  const files = { Dockerfile: "FROM scratch\nCOPY file /\n" };
  const { end, log } = await runOf({ files, symlinks: { file: `${outside.path}/secret` } });
  expect(end).toMatchObject({ status: "FAILED", failure: { code: "BUILD_FAILED", step: "build" } });
  expect(log).not.toContain(SECRET);
});

test("ignored files are not in the image, and a Dockerfile's own ignore file replaces the common one", async () => {
  const files = {
    Dockerfile: COPY_ALL,
    "other.Dockerfile": COPY_ALL,
    ".dockerignore": "*\n!one\n",
    "other.Dockerfile.dockerignore": "*\n!two\n",
    "docker/Real": COPY_ALL,
    "linked.Dockerfile.dockerignore": "*\n!three\n",
    one: "1",
    two: "2",
    three: "3",
    "service/Dockerfile": COPY_ALL,
    "service/.dockerignore": "three\n.dockerignore\nDockerfile\n",
    "service/three": "3",
    "service/four": "4",
  };
  const linked = { files, symlinks: { "linked.Dockerfile": "docker/Real" } };
  expect((await layerOf({ files })).paths).toEqual(["one"]);
  expect((await layerOf(linked, { dockerfile: "linked.Dockerfile" })).paths).toEqual(["three"]);
  expect((await layerOf({ files }, { dockerfile: "other.Dockerfile" })).paths).toEqual(["two"]);
  expect((await layerOf({ files }, { context: "service" })).paths).toEqual(["four"]);
});

test("an ignore file that is a symbolic link does not lead out of the repository", async () => {
  const files = { Dockerfile: COPY_ALL, one: "1" };
  const { log } = await runOf({ files, symlinks: { ".dockerignore": `${outside.path}/secret` } });
  expect(log).not.toContain(SECRET);
});

test("names that are not UTF-8 are in the image as they are in the repository", async () => {
  const { paths } = await layerOf({
    files: { Dockerfile: COPY_ALL, "caf\xe9/f\xfc": "f" },
    symlinks: { "l\xefnk": "t\xe4rget" },
    encoding: "latin1",
  });
  // As `tar` shows their bytes.
  expect(paths).toContain("caf\\351/f\\374");
  expect(paths).toContain("l\\357nk -> t\\344rget");
});

test("COPY of a whole checkout with its .git is cached for another clone of the same commit", async () => {
  const name = bench.unique("acme/paths");
  await bench.git.createRepository(name, { Dockerfile: COPY_ALL, [`only-${name.replace("/", "-")}`]: "f" });
  const built = async () => {
    const { end, lines } = bench.start({ repoUrl: name });
    expect(await end).toMatchObject({ status: "SUCCESS" });
    return lines.filter((line) => line.includes(" cached"));
  };
  expect(await built()).toEqual(["1 steps, 0 cached"]);
  expect(await built()).toEqual(["1 steps, 1 cached"]);
});

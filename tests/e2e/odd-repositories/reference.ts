/**
 * What a user would do by hand: clone the repository with git and Git LFS, and build it with `docker buildx build` in
 * that clone.
 */
import { join } from "node:path";
import { distribution, extractDebianPackages } from "../../support/machine/apt.ts";
import { cachedFolder, testCacheFolder } from "../../support/machine/cached-folder.ts";
import { CommandFailed, run } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import type { Backends } from "../../support/servers/backends.ts";
import { imageInArchive, imageLines } from "./image-content.ts";
import type { BuildFields, OddInput } from "./input.ts";
import type { Outcome } from "./outcome.ts";
import type { Served } from "./served.ts";

export interface Reference {
  build(input: OddInput, served: Served): Promise<Outcome>;
  stop(): Promise<void>;
}

/** Debian's package, unpacked: its installation would change the git settings of the machine. */
async function gitLfsFolder(): Promise<string> {
  const { codename } = await distribution();
  const folder = join(testCacheFolder(), `git-lfs-${codename}-${process.arch}`);
  await cachedFolder(folder, "usr/bin/git-lfs", (unfinished) =>
    extractDebianPackages(["git-lfs"], codename, unfinished),
  );
  return join(folder, "usr/bin");
}

/** As `git lfs install` writes it. */
const GIT_CONFIG = `[filter "lfs"]
\tclean = git-lfs clean -- %f
\tsmudge = git-lfs smudge -- %f
\tprocess = git-lfs filter-process
\trequired = true
`;

export async function startReference(backends: Backends): Promise<Reference> {
  const { docker } = backends;
  const home = await makeTempDir("home");
  const gitConfig = join(home.path, "gitconfig");
  await Bun.write(gitConfig, GIT_CONFIG);
  const environment = {
    HOME: home.path,
    PATH: `${await gitLfsFolder()}:${docker.env().PATH}`,
    DOCKER_CONFIG: join(home.path, "docker"),
    GIT_CONFIG_GLOBAL: gitConfig,
    GIT_CONFIG_SYSTEM: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
  };

  const git = (cwd: string, ...args: string[]) => run(["git", ...args], { cwd, env: environment });

  async function clone({ fields = {}, fetched }: OddInput, { url }: Served, into: string): Promise<void> {
    const { branch = "main", commit } = fields;
    const version = fetched ? ["--no-checkout"] : [`--branch=${branch}`, "--recurse-submodules"];
    await git("/", "clone", "--quiet", ...version, "--", url, into);
    if (fetched) {
      await git(into, "fetch", "--quiet", "origin", fetched);
      await git(into, "checkout", "--quiet", "FETCH_HEAD");
    }
    if (commit) await git(into, "checkout", "--quiet", commit);
    if (fetched || commit) await git(into, "submodule", "--quiet", "update", "--init", "--recursive");
  }

  async function buildImage(fields: BuildFields, checkout: string, archive: string): Promise<string> {
    const options = await buildOptions(fields, home);
    // Without the cache, so that the two builds have no result in common.
    const command = ["buildx", "build", "--progress=plain", "--no-cache", "--provenance=false", ...options];
    const output = `--output=type=oci,compression=uncompressed,dest=${archive}`;
    const args = [...command, output, fields.context ?? "."];
    const { stdout, stderr } = await docker.docker(args, {
      cwd: checkout,
      env: environment,
      timeoutMs: 180_000,
    });
    return stdout + stderr;
  }

  return {
    async build(input, served) {
      const folder = await makeTempDir("clone");
      const checkout = join(folder.path, "clone");
      const archive = join(folder.path, "image.tar");
      try {
        await clone(input, served, checkout);
        const log = await buildImage(input.fields ?? {}, checkout, archive);
        const image = await imageLines(imageInArchive(await Bun.file(archive).bytes()));
        return { end: "built", image, log: log.split("\n") };
      } catch (error) {
        if (isTooLong(error)) return { end: "failed", message: "argument list too long", log: [] };
        if (!(error instanceof CommandFailed)) throw error;
        return failureOf(error);
      } finally {
        await folder.remove();
      }
    },
    stop: () => home.remove(),
  };
}

/** Linux does not start a program with such arguments. */
const isTooLong = (error: unknown) => error instanceof Error && "code" in error && error.code === "E2BIG";

function failureOf({ result }: CommandFailed): Outcome {
  const log = `${result.stdout}${result.stderr}`.trimEnd().split("\n");
  const message = log.findLast((line) => /^(ERROR|error|fatal): /.test(line)) ?? log.at(-1) ?? "";
  return { end: "failed", message, log };
}

async function buildOptions(fields: BuildFields, home: TempDir): Promise<string[]> {
  const { dockerfile, target, build_args = {}, labels = {}, platforms = [], secrets = {} } = fields;
  const secretOptions: string[] = [];
  for (const [name, value] of Object.entries(secrets)) {
    const path = join(home.path, `secret-${name}`);
    await Bun.write(path, value);
    secretOptions.push(`--secret=id=${name},src=${path}`);
  }
  return [
    ...(dockerfile ? [`--file=${dockerfile}`] : []),
    ...(target ? [`--target=${target}`] : []),
    ...Object.entries(build_args).map(([name, value]) => `--build-arg=${name}=${value}`),
    ...Object.entries(labels).map(([name, value]) => `--label=${name}=${value}`),
    ...(platforms.length > 0 ? [`--platform=${platforms.join(",")}`] : []),
    ...secretOptions,
  ];
}

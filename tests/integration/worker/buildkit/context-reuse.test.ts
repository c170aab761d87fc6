import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";
import { CheckoutCache } from "../../../../src/worker/git/checkout-cache.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { noise } from "../../../support/machine/noise.ts";
import { run } from "../../../support/machine/processes.ts";
import { missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { type PipelineBench, startPipelineBench } from "../pipeline/pipeline-bench.ts";

const missing = await missingDockerEngine("26.1");

describe.skipIf(missing !== undefined)("the context that BuildKit has cached", () => {
  let bench: PipelineBench;
  let cacheDir: string;
  let checkoutCache: CheckoutCache;

  beforeAll(async () => {
    bench = await startPipelineBench({ engine: "26.1" });
  });
  afterAll(() => bench.stop());
  beforeEach(() => {
    cacheDir = join(bench.workDir, bench.unique("checkout-cache-of"));
    checkoutCache = new CheckoutCache({ workDir: cacheDir, limitBytes: 1e9, bootId: "boot" });
  });

  async function built(job: Partial<PipelineJob>) {
    const ecrRepo = bench.unique("images");
    const started = bench.start({ ...job, ecrRepo }, { parts: { checkoutCache } });
    const end = await started.end;
    if (end.status !== "SUCCESS") throw new Error(`the run ended ${JSON.stringify(end)}`);
    return { ecrRepo, digest: end.imageDigest ?? "", log: started.lines.join("\n") };
  }

  /** The file that is the image's only layer. */
  async function onlyFile({ ecrRepo, digest }: { ecrRepo: string; digest: string }): Promise<string> {
    const manifest = await bench.registry.getManifest(ecrRepo, digest);
    const [layer] = (manifest?.json.layers ?? []) as { digest: string }[];
    const blob = await bench.registry.fetch(`/v2/${ecrRepo}/blobs/${layer?.digest}`);
    const tar = Bun.gunzipSync(await blob.arrayBuffer());
    return new TextDecoder().decode(tar.subarray(512, 1024)).replace(/\0+$/, "");
  }

  /** Sets one time for all files of this test's cached checkouts. */
  async function setSameTime(): Promise<void> {
    const touch = ["-exec", "touch", "-d", "@1000000000", "{}", "+"];
    await run(["find", cacheDir, "-type", "f", "-not", "-path", "*/.git/*", ...touch]);
    const { stdout } = await run(["find", cacheDir, "-type", "d", "-name", ".git"]);
    // Otherwise git considers the files changed, and writes them again.
    for (const gitDir of stdout.trim().split("\n"))
      await run(["git", "update-index", "--refresh"], { cwd: dirname(gitDir) });
  }

  const WITH_BUSYBOX = /transferring context: [\d.]+MB/;

  test("is used by the next run of the repository, which sends only changed files", async () => {
    const { name } = await bench.createSample();
    const job = { repoUrl: name };
    expect((await built(job)).log).toMatch(WITH_BUSYBOX);
    await bench.git.commit(name, { greeting: "another\n" });
    const second = await built(job);
    expect(second.log).toContain("transferring context");
    expect(second.log).not.toMatch(WITH_BUSYBOX);
  });

  test("is not used for another tenant", async () => {
    const { name } = await bench.createSample();
    expect((await built({ repoUrl: name, tenant: "one" })).log).toMatch(WITH_BUSYBOX);
    expect((await built({ repoUrl: name, tenant: "other" })).log).toMatch(WITH_BUSYBOX);
  });

  test("is not used for another folder of the same name, nor for another Dockerfile", async () => {
    const name = bench.unique("acme/app");
    await bench.git.createRepository(name, {
      "one/app/f": "of one",
      "one/app/Dockerfile": "FROM scratch\nCOPY f /one\n",
      "one/app/Other": "FROM scratch\nCOPY g /one\n",
      "one/app/g": "gg one",
      "two/app/f": "of two",
      "two/app/Dockerfile": "FROM scratch\nCOPY f /two\n",
      "two/Other": "FROM scratch\nCOPY f /els\n",
    });
    await built({ repoUrl: name, context: "one/app" });
    await setSameTime();
    const one = await built({ repoUrl: name, context: "one/app" });
    const two = await built({ repoUrl: name, context: "two/app" });
    expect([await onlyFile(one), await onlyFile(two)]).toEqual(["of one", "of two"]);
    const other = await built({ repoUrl: name, context: "one/app", dockerfile: "one/app/Other" });
    expect(await onlyFile(other)).toBe("gg one");
    const elsewhere = await built({ repoUrl: name, context: "one/app", dockerfile: "two/Other" });
    expect(elsewhere.log).toContain("COPY f /els");
  });

  inFullCheck().test(
    "is not used for another folder, nor for another Dockerfile, after a symlink has changed",
    async () => {
      const name = bench.unique("acme/app");
      await bench.git.createRepository(name, {
        "one/app/f": "of one",
        "two/app/f": "of two",
        "one/Dockerfile": "FROM scratch\nCOPY f /one\n",
        "two/Dockerfile": "FROM scratch\nCOPY f /two\n",
      });
      const job = { repoUrl: name, context: "current/app", dockerfile: "Dockerfile" };
      const linkedTo = async (folder: string) => {
        await bench.git.commit(
          name,
          {},
          { symlinks: { current: folder, Dockerfile: `${folder}/Dockerfile` } },
        );
        return built(job);
      };
      await linkedTo("one");
      await setSameTime();
      const one = await built({ ...job, buildArgs: { A: "b" } });
      const two = await linkedTo("two");
      expect([await onlyFile(one), await onlyFile(two)]).toEqual(["of one", "of two"]);
      expect(one.log).toContain("COPY f /one");
      expect(two.log).toContain("COPY f /two");
    },
  );

  test("is not used for a file whose content changed while its size did not", async () => {
    const name = bench.unique("acme/app");
    await bench.git.createRepository(name, { Dockerfile: "FROM scratch\nCOPY f /f\n", f: "AAAA" });
    for (const content of ["AAAA", "BBBB", "AAAA", "CCCC"]) {
      await bench.git.commit(name, { f: content });
      expect(await onlyFile(await built({ repoUrl: name }))).toBe(content);
    }
  });

  describe("with files of Git LFS", () => {
    const attributes = { ".gitattributes": "*.bin filter=lfs -text\n" };
    const pointerTo = (content: string | Uint8Array) => bench.git.lfs.add(Buffer.from(content));

    test("receives changed files again, and not unchanged ones", async () => {
      const { name } = await bench.createSample();
      await bench.git.commit(name, { ...attributes, "large.bin": pointerTo(noise(3e6)) });
      const job = { repoUrl: name };
      expect((await built(job)).log).toMatch(WITH_BUSYBOX);
      await bench.git.commit(name, { greeting: "another\n" });
      const second = await built(job);
      expect(second.log).toContain("1 of them restored from the cached checkout");
      expect(second.log).not.toMatch(WITH_BUSYBOX);
    });

    inFullCheck().test(
      "is not used for a file whose content changed while its size did not, or that was swapped with another",
      async () => {
        const name = bench.unique("acme/app");
        const dockerfile = "FROM scratch\nCOPY f.bin /f\n";
        await bench.git.createRepository(name, { Dockerfile: dockerfile, ...attributes });
        const contents = [
          ["AAAA", "BBBB"],
          ["BBBB", "AAAA"],
          ["CCCC", "AAAA"],
          ["CCCC", "BBBB"],
          ["AAAA", "CCCC"],
        ] as const;
        for (const [f, g] of contents) {
          await bench.git.commit(name, { "f.bin": pointerTo(f), "g.bin": pointerTo(g) });
          expect(await onlyFile(await built({ repoUrl: name }))).toBe(f);
        }
      },
    );
  });
});

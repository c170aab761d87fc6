/** The contract of all builders, whatever the engine; one test file per engine runs it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { canonicalPlatforms } from "../../../../src/shared/platforms.ts";
import { cacheScope } from "../../../../src/worker/buildkit/cache-scope.ts";
import { UNREAD_OUTPUT } from "../../../../src/worker/buildkit/progress/missing-output.ts";
import { RunCancelled, RunDrained, RunTimeout } from "../../../../src/worker/job/cancellation.ts";
import type { PipelineJob } from "../../../../src/worker/job/job.ts";
import { attemptTag } from "../../../../src/worker/job/workspace.ts";
import { BackgroundWork } from "../../../../src/worker/pipeline/background-work.ts";
import type { PipelineParts } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { childEnvironment } from "../../../../src/worker/process/child-environment.ts";
import { StaticRegistryAuthenticator } from "../../../../src/worker/registry/static-registry.ts";
import { inFullCheck, isFullCheck } from "../../../support/machine/full-check.ts";
import { sampleRepository, staticBusybox } from "../../../support/machine/sample-repository.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { containerOutput } from "../../../support/servers/docker-engines.ts";
import { type PipelineBench, type StartedRun, startPipelineBench } from "../pipeline/pipeline-bench.ts";
import { type BuildSiteOptions, missingForSite } from "./build-site.ts";

interface Expected extends Omit<BuildSiteOptions, "own"> {
  readonly kind: "direct" | "local";
  /**
   * Whether every check runs the whole contract with this builder, or only the tests of the builder itself. The tests
   * of the pipeline, which are the same for all builders, then run only in the full check.
   */
  readonly isWhole?: boolean;
}

/** The labels of an image then prove that Blacktree built it. */
const WITH_REUSE_KEY = { parts: { reuseKeys: [Buffer.alloc(32, 1)] } };

export async function describeBuilds({ kind, isWhole = false, ...options }: Expected): Promise<void> {
  // One of the tests kills the engine.
  const siteOptions: BuildSiteOptions = { ...options, own: true };
  const ofPipeline = inFullCheck(!isWhole);
  // A BuildKit beside the engine is used by the direct builder, and the local builder with buildx differs from the one
  // without only in its client, so what these builders decide is the same.
  const isRepeated = options.buildKit !== undefined || options.storage === "overlay2";
  const ofBuilder = inFullCheck(isRepeated);
  /** What the classic builder does as the others do, by the same options. */
  const ofLaterBuilder = inFullCheck(isRepeated || !isWhole);
  const { engine: engineName, storage, buildKit } = siteOptions;
  const reason = await missingForSite(siteOptions);
  const place = buildKit
    ? `a ${buildKit === "remote" ? "remote BuildKit" : "BuildKit in a container"} beside `
    : "";
  describe.skipIf(reason !== undefined)(
    `builds with ${place}Docker ${engineName}${storage ? ` on ${storage}` : ""}${reason ? ` (${reason})` : ""}`,
    () => {
      let bench: PipelineBench;
      let imagesBefore: string;

      beforeAll(async () => {
        bench = await startPipelineBench(siteOptions);
        imagesBefore = await engineImages();
      });
      afterAll(() => bench?.stop());

      async function engineImages(): Promise<string> {
        return (await bench.engine.docker(["images", "--all", "--quiet", "--no-trunc"])).stdout;
      }

      async function expectNothingLeft({ job }: StartedRun): Promise<void> {
        expect(await bench.leftFolders()).toEqual([]);
        expect(await processesOf(bench.workDir)).toEqual([]);
        const { stdout } = await bench.engine.docker(["images", "--all"]);
        expect(stdout).not.toContain(attemptTag(job));
      }

      /** The output of the version's image, which the engine pulls from the registry. */
      async function runImage({ job }: StartedRun): Promise<string> {
        const image = `${bench.proxy.host}/${job.ecrRepo}:${job.deploymentVersion}`;
        const { username, password } = bench.registry;
        await bench.engine.docker(["login", "--username", username, "--password-stdin", bench.proxy.host], {
          stdin: password,
        });
        try {
          return await containerOutput(bench.engine, image);
        } finally {
          await bench.engine.docker(["image", "rm", "--force", image]);
        }
      }

      /** The same, but read from the image: a container costs as much as a build. */
      function printedIn({ job }: StartedRun): Promise<string> {
        return bench.registry.readImageFile(job.ecrRepo, job.deploymentVersion, "printed");
      }

      test("the right builder for the engine is chosen", () => {
        expect(bench.builder.kind).toBe(kind);
      });

      test("a working image is pushed under the version, and nothing is left behind", async () => {
        const { name, commit } = await bench.createSample();
        const run = bench.start({ repoUrl: name });
        const end = await run.end;
        const image = `${bench.proxy.host}/${run.job.ecrRepo}:${run.job.deploymentVersion}`;
        expect(end).toMatchObject({ status: "SUCCESS", commit, imageUrl: image });
        const stored = await bench.registry.getManifest(run.job.ecrRepo, run.job.deploymentVersion);
        expect(stored?.digest).toBe(end.imageDigest ?? "");
        expect(run.states.toSorted()).toEqual(["AUTHENTICATING", "BUILDING", "CLONING", "PUSHING"]);
        expect(run.states.indexOf("BUILDING")).toBeLessThan(run.states.indexOf("PUSHING"));
        expect(run.lines.join("\n")).toContain("the RUN step works");
        expect(run.lines).not.toContain(UNREAD_OUTPUT);
        expect(end.timingsMs.clone).toBeGreaterThan(0);
        expect(end.timingsMs.build).toBeGreaterThan(0);
        expect(end.timingsMs.push).toBeGreaterThan(0);
        expect(end.timingsMs.total).toBeGreaterThanOrEqual(end.timingsMs.build);
        expect(await runImage(run)).toBe(`${name}\n`);
        await expectNothingLeft(run);
        expect(await engineImages()).toBe(imagesBefore);
      });

      ofBuilder.test(
        "no builder puts the version's tag, and a direct push needs no tag of the attempt",
        async () => {
          const { name } = await bench.createSample();
          const run = bench.start({ repoUrl: name });
          expect(await run.end).toMatchObject({ status: "SUCCESS" });
          const puts = bench.proxy.tagPuts(run.job.ecrRepo, run.job.deploymentVersion);
          expect(puts).toHaveLength(1);
          expect(puts[0]?.userAgent).toContain("Bun");
          const tags = await bench.registry.listTags(run.job.ecrRepo);
          // This registry does not delete by tag, so a local builder's tag stays, and the log reports it.
          const ofAttempt = kind === "direct" ? [] : [attemptTag(run.job)];
          expect(tags.toSorted()).toEqual([run.job.deploymentVersion, ...ofAttempt].toSorted());
          expect(run.lines.some((line) => line.includes("cannot delete by tag"))).toBe(kind === "local");
        },
      );

      ofPipeline.test("a label that is too long for the kernel is refused", async () => {
        const { name } = await bench.createSample();
        const run = bench.start({ repoUrl: name, labels: { long: "x".repeat(200_000) } });
        const end = await run.end;
        expect(end).toMatchObject({ status: "FAILED", failure: { code: "UNSUPPORTED", step: "build" } });
        expect(end.failure?.message).toContain("too long");
        await expectNothingLeft(run);
      });

      ofBuilder.test(
        "build arguments of any name and value arrive unchanged, or are refused by name",
        async () => {
          const values = {
            LINES: 'first\n  "second" \\n\r\t',
            // biome-ignore lint/suspicious/noTemplateCurlyInString: bake would replace it
            VARIABLES: "${HOME} $HOME $$ $${x} ${ %{if} %%{",
            UNICODE: "e\u0301 é 😀 \u2028 \u0085 \ufeff",
            YAML: "- {a: [b]} # & * ! | > null ~",
            EMPTY: "",
            LONG: "x".repeat(100_000),
          };
          // Each of them would affect docker's client.
          const affecting = {
            DEBUG: "1",
            DOCKER_HOST: "tcp://127.0.0.1:1",
            HOME: "/h",
            http_proxy: "a",
            HTTP_PROXY: "b",
          };
          const buildArgs = { ...values, "a.b": "1", "my-arg": "2", "a b\nc": "3" };
          const script = [...Object.keys(values), "DEBUG"].map(
            (name) => `printf %s \\"$${name}\\" | /bin/busybox sha256sum`,
          );
          const repoUrl = bench.unique("acme/arguments");
          await bench.git.createRepository(repoUrl, {
            "bin/busybox": await staticBusybox(),
            Dockerfile: [
              "FROM scratch",
              "COPY bin/busybox /bin/busybox",
              ...[...Object.keys(values), "DEBUG"].map((name) => `ARG ${name}`),
              `RUN ["/bin/busybox", "sh", "-c", "(${script.join("; ")}) > /printed"]`,
              'CMD ["/bin/busybox", "cat", "/printed"]',
              "",
            ].join("\n"),
          });
          const sums = (of: readonly string[]) =>
            of.map((value) => `${new Bun.CryptoHasher("sha256").update(value).digest("hex")}  -\n`).join("");
          if (bench.builder.bake === undefined) {
            const refused = await bench.start({ repoUrl, buildArgs: { ...buildArgs, ...affecting } }).end;
            expect(refused).toMatchObject({
              status: "FAILED",
              failure: { code: "UNSUPPORTED", step: "build" },
            });
            expect(refused.failure?.message).toContain("the build argument DEBUG would affect docker itself");
          }
          const taken = bench.builder.bake === undefined ? {} : affecting;
          const run = bench.start({ repoUrl, buildArgs: { ...buildArgs, ...taken } });
          expect(await run.end).toMatchObject({ status: "SUCCESS" });
          expect(await printedIn(run)).toBe(sums([...Object.values(values), "DEBUG" in taken ? "1" : ""]));
          await expectNothingLeft(run);
        },
      );

      ofPipeline.test(
        "the labels record what the image was built from, build arguments only as a hash",
        async () => {
          const { name, commit } = await bench.createSample();
          const secretArgument = crypto.randomUUID();
          const run = bench.start({
            repoUrl: name,
            labels: { team: "payments and more" },
            buildArgs: { API_LEVEL: secretArgument },
          });
          expect(await run.end).toMatchObject({ status: "SUCCESS" });
          const image = await bench.registry.getImageConfig(run.job.ecrRepo, run.job.deploymentVersion);
          expect(image.config?.Labels).toMatchObject({
            team: "payments and more",
            "io.blacktree.commit": commit,
            "io.blacktree.repository": `${bench.git.baseUrl}/${name}`,
            "io.blacktree.provenance": "false",
          });
          expect(JSON.stringify(image.config?.Labels)).not.toContain(secretArgument);
        },
      );

      ofPipeline.test(
        "OCI's standard labels record the source of the image, unless the job sets them",
        async () => {
          const { name, commit } = await bench.createSample();
          const run = bench.start({ repoUrl: name });
          const end = await run.end;
          expect(end).toMatchObject({ status: "SUCCESS" });
          const prefix = "org.opencontainers.image";
          const { config } = await bench.registry.getImageConfig(run.job.ecrRepo, run.job.deploymentVersion);
          const labels = config?.Labels ?? {};
          expect(labels).toMatchObject({
            [`${prefix}.source`]: `${bench.git.baseUrl}/${name}`,
            [`${prefix}.revision`]: commit,
            [`${prefix}.version`]: run.job.deploymentVersion,
          });
          const created = labels[`${prefix}.created`] ?? "";
          expect(created).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
          expect(Math.abs(Date.now() - Date.parse(created))).toBeLessThan(3_600_000);

          // Another registry repository forces a build; with equal inputs the image is the same.
          const again = bench.start({ ...run.job, attempt: 2, ecrRepo: bench.unique("again") });
          expect((await again.end).imageDigest).toBe(end.imageDigest);
          expect(again.states).toContain("BUILDING");

          const overridden = bench.start({
            repoUrl: name,
            labels: { [`${prefix}.version`]: "set by the job" },
          });
          expect(await overridden.end).toMatchObject({ status: "SUCCESS" });
          const image = await bench.registry.getImageConfig(
            overridden.job.ecrRepo,
            overridden.job.deploymentVersion,
          );
          expect(image.config?.Labels?.[`${prefix}.version`]).toBe("set by the job");
          // The RUN step was not run again.
          expect(overridden.lines.join("\n")).not.toMatch(/^#\d+ \d+\.\d+ the RUN step works$/m);
          expect(overridden.lines.join("\n")).toMatch(/^#\d+ CACHED$/m);
        },
      );

      ofLaterBuilder.test("the job's build arguments, target, dockerfile and context are used", async () => {
        const files = await sampleRepository({ variant: "none" });
        const name = bench.unique("acme/parts");
        const busybox = (await sampleRepository())["bin/busybox"] ?? "";
        await bench.git.createRepository(name, {
          ...files,
          "service/bin/busybox": busybox,
          "service/word": name,
          "docker/Build.dockerfile": [
            "FROM scratch AS wanted",
            "ARG GREETING",
            "ARG AWS_SECRET_ACCESS_KEY",
            "COPY bin/busybox /bin/busybox",
            "COPY word /word",
            'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox echo $GREETING $AWS_SECRET_ACCESS_KEY $HTTPS_PROXY > /printed; /bin/busybox cat /word >> /printed"]',
            'CMD ["/bin/busybox", "cat", "/printed"]',
            "FROM wanted AS other",
            'RUN ["/bin/busybox", "false"]',
            "",
          ].join("\n"),
        });
        const run = bench.start({
          repoUrl: name,
          dockerfile: "docker/Build.dockerfile",
          context: "service",
          target: "wanted",
          buildArgs: {
            GREETING: "hello you",
            AWS_SECRET_ACCESS_KEY: "a key",
            HTTPS_PROXY: "http://127.0.0.1:1",
          },
        });
        expect(await run.end).toMatchObject({ status: "SUCCESS" });
        expect(await printedIn(run)).toBe(`hello you a key http://127.0.0.1:1\n${name}`);
      });

      ofLaterBuilder.test(
        "a token, a password and build arguments are in no argument list, no log and no .git/config",
        async () => {
          const token = `token-${crypto.randomUUID()}`;
          const argument = `argument-${crypto.randomUUID()}`;
          const name = bench.unique("acme/private");
          const files = await sampleRepository({ variant: "slow", sleepSeconds: 1, greeting: name });
          const commit = await bench.git.createRepository(name, files, { private: { token } });
          const held = bench.git.hold(({ path }) => path.includes(name));
          const run = bench.start({
            repoUrl: name,
            gitToken: token,
            buildArgs: { SOME: argument, AWS_SESSION_TOKEN: argument, no_proxy: argument },
          });
          let gitConfig = "";
          const commandLines = new Set<string>();
          const look = async () => {
            for (const line of await allCommandLines()) commandLines.add(line);
            gitConfig ||= await checkoutGitConfig(bench.workDir);
          };
          // While its request is held, the clone cannot end before it was seen.
          await held.arrived;
          await look();
          held.release();
          let ended = false;
          const watch = waitFor(() => look().then(() => ended), {
            timeoutMs: 110_000,
            what: "the run to end",
          });
          const end = await run.end;
          ended = true;
          await watch;
          expect(end).toMatchObject({ status: "SUCCESS", commit });
          expect(gitConfig).toContain(name);
          const seen = [...commandLines].join("\n");
          expect(seen).toContain("git clone");
          expect(seen).toMatch(/ (build|bake) --/);
          const basic = Buffer.from(`x-access-token:${token}`).toString("base64");
          const outputs = [seen, gitConfig, run.lines.join("\n"), JSON.stringify(end)].join("\n");
          for (const secret of [token, basic, bench.registry.password]) expect(outputs).not.toContain(secret);
          expect(seen).not.toContain(argument);
          await expectNothingLeft(run);
        },
      );

      /** A repository with one RUN step, whose image prints the content of /printed. */
      async function createStep(run: string): Promise<string> {
        const name = bench.unique("acme/step");
        const { "bin/busybox": busybox = "" } = await sampleRepository();
        await bench.git.createRepository(name, {
          "bin/busybox": busybox,
          name,
          Dockerfile: [
            "FROM scratch",
            "COPY bin/busybox name /bin/",
            `RUN ${run}`,
            'CMD ["/bin/busybox", "cat", "/printed"]',
            "",
          ].join("\n"),
        });
        return name;
      }

      async function printedBy(
        job: Partial<PipelineJob>,
        parts: Partial<PipelineParts> = {},
      ): Promise<string> {
        const run = bench.start(job, { parts });
        expect(await run.end).toMatchObject({ status: "SUCCESS" });
        return printedIn(run);
      }

      const NEW_UUID = "/bin/busybox cat /proc/sys/kernel/random/uuid > /printed";
      const TENANTS = ["111111111111", "222222222222"] as const;

      ofBuilder.test("a secret reaches only the step that mounts it", async () => {
        const value = `hidden "value", with=all \n kinds – of ${crypto.randomUUID()}\n`;
        const shown = `shown-${crypto.randomUUID()}`;
        const repoUrl = await createStep(
          '--mount=type=secret,id=npm.token --mount=type=secret,id=other ["/bin/busybox", "sh", "-c", "/bin/busybox sha256sum /run/secrets/npm.token > /printed; /bin/busybox cat /run/secrets/*; /bin/busybox ls /run/secrets; /bin/busybox sleep 1"]',
        );
        const run = bench.start({
          repoUrl,
          secrets: { "npm.token": value, other: shown },
          provenance: kind === "direct",
        });
        const commandLines = new Set<string>();
        let ended = false;
        const watch = waitFor(
          async () => {
            for (const line of await allCommandLines()) commandLines.add(line);
            return ended;
          },
          { timeoutMs: 110_000, what: "the run to end" },
        );
        const end = await run.end;
        ended = true;
        await watch;
        expect(end).toMatchObject({ status: "SUCCESS" });
        const sha256 = new Bun.CryptoHasher("sha256").update(value).digest("hex");
        expect(await printedIn(run)).toBe(`${sha256}  /run/secrets/npm.token\n`);
        const log = run.lines.join("\n");
        expect(log).toMatch(/npm\.token$/m);
        const seen = [...commandLines].join("\n");
        expect(seen).toContain("id=npm.token");
        const pushed = await contentsOf(bench.registry.storageDir);
        expect(pushed).toContain("busybox");
        const forms = [value.slice(30, 70), shown, btoa(shown).replace(/=*$/, "")];
        for (const form of forms) {
          for (const output of [log, seen, JSON.stringify(end), pushed]) expect(output).not.toContain(form);
        }
        await expectNothingLeft(run);
      });

      ofPipeline.test("a layer that was built with a secret is not shared with other tenants", async () => {
        const repoUrl = await createStep(
          '--mount=type=secret,id=key ["/bin/busybox", "sh", "-c", "/bin/busybox cat /run/secrets/key > /printed || /bin/busybox touch /printed"]',
        );
        const [one, other] = TENANTS;
        expect(await printedBy({ repoUrl, tenant: one, secrets: { key: "of one" } })).toBe("of one");
        expect(await printedBy({ repoUrl, tenant: other, secrets: { key: "of another" } })).toBe(
          "of another",
        );
        expect(await printedBy({ repoUrl, tenant: one })).toBe("");
        // The value is not part of the cache key: this is the layer of the first build.
        expect(await printedBy({ repoUrl, tenant: one, secrets: { key: "renewed" } })).toBe("of one");
      });

      ofPipeline.test("cached steps are shared by all, or within one tenant", async () => {
        const repoUrl = await createStep(`["/bin/busybox", "sh", "-c", "${NEW_UUID}"]`);
        const [one, other] = TENANTS;
        const printed = await printedBy({ repoUrl, tenant: one });
        expect(await printedBy({ repoUrl, tenant: other })).toBe(printed);
        const parts = { cacheSharing: "tenant" } as const;
        const own = await printedBy({ repoUrl, tenant: one }, parts);
        expect(own).not.toBe(printed);
        expect(await printedBy({ repoUrl, tenant: other }, parts)).not.toBe(own);
        expect(await printedBy({ repoUrl, tenant: one }, parts)).toBe(own);
      });

      ofPipeline.test("a cache mount of one tenant is not visible to another tenant", async () => {
        const step = (number: number) =>
          createStep(
            `--mount=type=cache,id=kept,target=/kept ["/bin/busybox", "sh", "-c", "echo ${number}; ls() { /bin/busybox ls /kept; }; ls > /printed; echo x > /kept/file"]`,
          );
        const [one, other] = TENANTS;
        const reaching = {
          BUILDKIT_CACHE_MOUNT_NS: cacheScope({ tenant: one, secrets: {} }, "", "all").mounts,
        };
        expect(await printedBy({ repoUrl: await step(1), tenant: one })).toBe("");
        expect(await printedBy({ repoUrl: await step(2), tenant: one })).toBe("file\n");
        expect(await printedBy({ repoUrl: await step(3), tenant: other, buildArgs: reaching })).toBe("");
      });

      /** Clients without buildx print progress only for people. */
      const reportsSteps = () => !bench.builder.description.includes("its own BuildKit client");

      ofLaterBuilder.test("the steps of a build are reported with name, cache hit and duration", async () => {
        const { name } = await bench.createSample();
        const first = bench.start({ repoUrl: name });
        expect(await first.end).toMatchObject({ status: "SUCCESS" });
        if (!reportsSteps()) return void expect(first.steps).toEqual([]);
        const ended = first.steps.flatMap(({ name: step, end }) => (end ? [{ step, ...end }] : []));
        expect(ended.map(({ step }) => step.replace(/^\[.*\] (\w+) .*$/, "$1")).toSorted()).toEqual([
          "COPY",
          "COPY",
          "RUN",
        ]);
        const run = ended.find(({ step }) => step.includes("RUN"));
        expect(run).toMatchObject({ isCached: false, error: "" });
        expect(run?.durationMs).toBeGreaterThan(0);
        const again = bench.start({ repoUrl: name });
        expect(await again.end).toMatchObject({ status: "SUCCESS" });
        expect(again.steps.flatMap(({ end }) => end?.isCached ?? [])).toEqual([true, true, true]);
        expect(again.lines).toContain("3 steps, 3 cached");
      });

      ofBuilder.test("a failed step is reported with its error", async () => {
        const { name } = await bench.createSample({ variant: "failing" });
        const run = bench.start({ repoUrl: name });
        expect(await run.end).toMatchObject({ status: "FAILED" });
        if (!reportsSteps()) return void expect(run.steps).toEqual([]);
        expect(run.steps.findLast(({ end }) => end)?.end?.error).toMatch(/exit code: 3$/);
      });

      ofPipeline.test("concurrent builds do not affect each other", async () => {
        const samples = await Promise.all([1, 2, 3].map(() => bench.createSample()));
        const runs = samples.map(({ name }) => bench.start({ repoUrl: name }));
        for (const { end } of runs) expect(await end).toMatchObject({ status: "SUCCESS" });
        const printed: string[] = [];
        for (const run of runs) printed.push(await printedIn(run));
        expect(printed).toEqual(samples.map(({ name }) => `${name}\n`));
        for (const run of runs) await expectNothingLeft(run);
      });

      const prune = (keepBytes: number) =>
        bench.builder.prune(keepBytes, {
          cwd: bench.workDir,
          environment: childEnvironment(bench.hostEnvironment, bench.workDir),
          signal: new AbortController().signal,
        });

      ofLaterBuilder.test("the cache is pruned to the given size", async () => {
        const repoUrl = await createStep(`["/bin/busybox", "sh", "-c", "${NEW_UUID}"]`);
        const printed = await printedBy({ repoUrl });
        await prune(1e12);
        expect(await printedBy({ repoUrl })).toBe(printed);
        await prune(0);
        expect(await printedBy({ repoUrl })).not.toBe(printed);
        expect((await readdir(bench.workDir)).filter((name) => name.startsWith("prune-"))).toEqual([]);
      });

      ofBuilder.test(
        "the registry's cache replaces the local one for builders with that capability",
        async () => {
          const repoUrl = await createStep(`["/bin/busybox", "sh", "-c", "${NEW_UUID}"]`);
          const backgroundWork = new BackgroundWork(pino({ level: "silent" }));
          const parts = { backgroundWork, cacheRepository: bench.unique("cache") };
          const printed = await printedBy({ repoUrl }, parts);
          await backgroundWork.ended();
          await prune(0);
          const again = await printedBy({ repoUrl }, parts);
          await backgroundWork.ended();
          const isDeclared = bench.builder.capabilities.registryCache;
          expect(again === printed).toBe(isDeclared);
          expect(await bench.registry.listTags(parts.cacheRepository)).toHaveLength(isDeclared ? 1 : 0);
        },
      );

      /** Runs no program of the platform, so BuildKit can build it for every platform that it accepts. */
      async function createGreeting(): Promise<string> {
        const name = bench.unique("acme/greeting");
        await bench.git.createRepository(name, { name, Dockerfile: "FROM scratch\nCOPY name /greeting\n" });
        return name;
      }

      ofBuilder.test(
        "an image is built for each declared platform, and for any other while no step runs on it",
        async () => {
          const { platforms } = bench.builder.capabilities;
          expect(platforms).not.toContain("linux/s390x");
          const repoUrl = await createGreeting();
          const declared = isFullCheck ? platforms : platforms.slice(0, 2);
          for (const platform of [...declared, "linux/s390x"]) {
            const run = bench.start({ repoUrl, platforms: [platform] });
            expect(await run.end).toMatchObject({ status: "SUCCESS" });
            const image = await bench.registry.getImageConfig(run.job.ecrRepo, run.job.deploymentVersion);
            expect(platform).toStartWith(`${image.os}/${image.architecture}`);
          }
        },
      );

      ofPipeline.test(
        "steps of another platform's build run on the builder's own, and fail on the other one",
        async () => {
          const busybox = await staticBusybox();
          const foreign = Buffer.from(busybox);
          // The machine in the header of an ELF file; 22 is s390.
          foreign[18] = 22;
          const repoUrl = bench.unique("acme/cross");
          const stages = [
            "FROM --platform=$BUILDPLATFORM scratch AS native",
            "COPY bin/busybox /bin/busybox",
            'RUN ["/bin/busybox", "touch", "/made"]',
            "FROM scratch AS crossed",
            "COPY --from=native /made /made",
            "FROM crossed AS running",
            "COPY bin/foreign /bin/sh",
            "RUN true",
            "",
          ];
          const files = { "bin/busybox": busybox, "bin/foreign": foreign, Dockerfile: stages.join("\n") };
          await bench.git.createRepository(repoUrl, files);
          const platforms = ["linux/s390x"];
          const crossed = bench.start({ repoUrl, platforms, target: "crossed" });
          expect(await crossed.end).toMatchObject({ status: "SUCCESS" });
          const running = bench.start({ repoUrl, platforms });
          const { failure } = await running.end;
          expect(failure).toMatchObject({ code: "BUILD_FAILED", step: "build", retryable: false });
          expect(failure?.message).toContain("steps on linux/s390x need an emulator");
          expect(running.lines.join("\n")).toContain("exec format error");
        },
      );

      ofBuilder.test("several platforms become one image, or are refused", async () => {
        const { platforms: all, multiPlatform } = bench.builder.capabilities;
        const platforms = canonicalPlatforms(multiPlatform ? all.slice(0, 2) : ["linux/amd64", "linux/386"]);
        const run = bench.start({ repoUrl: await createGreeting(), platforms }, WITH_REUSE_KEY);
        const end = await run.end;
        if (!multiPlatform) {
          expect(end).toMatchObject({ status: "FAILED", failure: { code: "UNSUPPORTED", step: "build" } });
          return;
        }
        expect(end).toMatchObject({ status: "SUCCESS" });
        const stored = await bench.registry.getManifest(run.job.ecrRepo, run.job.deploymentVersion);
        const made = stored?.json.manifests?.map(({ platform }) => platform);
        const named = made?.map((one) =>
          [one?.os, one?.architecture, one?.variant].filter(Boolean).join("/"),
        );
        expect(named?.toSorted()).toEqual(platforms);
        // The labels are read through the index.
        const again = bench.start({ ...run.job, attempt: 2 }, WITH_REUSE_KEY);
        expect(await again.end).toMatchObject({ status: "SUCCESS", imageDigest: end.imageDigest });
        expect(again.states).not.toContain("BUILDING");
      });

      ofLaterBuilder.test(
        "steps have the engine's network, or none, according to the worker's settings",
        async () => {
          const step = '["/bin/busybox", "sh", "-c", "/bin/busybox ls /sys/class/net > /printed"]';
          const repoUrl = await createStep(step);
          const connected = await printedBy({ repoUrl });
          // The network of a separate BuildKit depends on its own configuration.
          if (bench.builder.description.startsWith("docker")) expect(connected).toContain("eth0");
          expect(await printedBy({ repoUrl }, { buildNetwork: "none" })).not.toContain("eth0");
          // A Dockerfile cannot override `none`.
          const overriding = await createStep(`--network=default ${step}`);
          const run = bench.start({ repoUrl: overriding }, { parts: { buildNetwork: "none" } });
          const { status, failure } = await run.end;
          if (status === "SUCCESS") expect(await printedIn(run)).not.toContain("eth0");
          // Older BuildKits do not know the flag.
          else expect(failure?.message).toContain("Unknown flag: network");
          const withHostNetwork = await createStep(`--network=host ${step}`);
          const refused = bench.start({ repoUrl: withHostNetwork });
          expect(await refused.end).toMatchObject({ status: "FAILED", failure: { code: "BUILD_FAILED" } });
        },
      );

      test.skipIf(engineName === "20.10")("without a network, ADD fetches no URL", async () => {
        const requests: string[] = [];
        const fetched = (request: Request) => {
          requests.push(request.url);
          return new Response("content");
        };
        const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: fetched });
        try {
          const repoUrl = bench.unique("acme/add");
          const dockerfile = `FROM scratch\nADD ${server.url.href}file /`;
          await bench.git.createRepository(repoUrl, { Dockerfile: dockerfile });
          const run = bench.start({ repoUrl }, { parts: { buildNetwork: "none" } });
          const failure = { code: "UNSUPPORTED", step: "build", retryable: false };
          expect(await run.end).toMatchObject({ status: "FAILED", failure });
          expect(requests).toEqual([]);
        } finally {
          await server.stop(true);
        }
      });

      ofBuilder.test("provenance is added by builders that support it, and refused by others", async () => {
        const { name } = await bench.createSample();
        const argument = crypto.randomUUID();
        const run = bench.start(
          { repoUrl: name, provenance: true, buildArgs: { ANY: argument } },
          WITH_REUSE_KEY,
        );
        const end = await run.end;
        if (!bench.builder.capabilities.provenance) {
          expect(end).toMatchObject({ status: "FAILED", failure: { code: "UNSUPPORTED", step: "build" } });
          return;
        }
        expect(end).toMatchObject({ status: "SUCCESS" });
        const stored = await bench.registry.getManifest(run.job.ecrRepo, run.job.deploymentVersion);
        const [, attestation] = stored?.json.manifests ?? [];
        const statement = await bench.registry.getManifest(run.job.ecrRepo, attestation?.digest ?? "");
        const [layer] = (statement?.json.layers ?? []) as { digest: string }[];
        const provenance = await bench.registry.fetch(`/v2/${run.job.ecrRepo}/blobs/${layer?.digest}`);
        const text = await provenance.text();
        expect(text).toContain("slsa.dev/provenance");
        expect(text).not.toContain(argument);
        // The labels are read through the index.
        const again = bench.start({ ...run.job, attempt: 2 }, WITH_REUSE_KEY);
        expect(await again.end).toMatchObject({ status: "SUCCESS", imageDigest: end.imageDigest });
        expect(again.states).not.toContain("BUILDING");
      });

      ofBuilder.test("a step that exits with 3 fails the build with docker's error message", async () => {
        const { name } = await bench.createSample({ variant: "failing" });
        const run = bench.start({ repoUrl: name });
        const end = await run.end;
        expect(end).toMatchObject({
          status: "FAILED",
          failure: { code: "BUILD_FAILED", step: "build", retryable: false },
        });
        expect(end.failure?.message).toMatch(/exit code: 3$/);
        expect(run.lines.join("\n")).toContain("this step fails");
        expect(run.lines.at(-1)).toStartWith("ERROR: ");
        expect(run.lines).not.toContain(UNREAD_OUTPUT);
        await expectNothingLeft(run);
      });

      ofPipeline.test("a failure's message is short, however long the step's script is", async () => {
        const name = bench.unique("acme/long");
        const script = `: ${"x".repeat(60_000)}; exit 3`;
        await bench.git.createRepository(name, {
          ...(await sampleRepository()),
          Dockerfile: `FROM scratch\nCOPY bin/busybox /bin/busybox\nRUN ["/bin/busybox", "sh", "-c", "${script}"]\n`,
        });
        const { failure } = await bench.start({ repoUrl: name }).end;
        expect(failure).toMatchObject({ code: "BUILD_FAILED", retryable: false });
        expect(failure?.message.length).toBeLessThan(20_000);
        expect(failure?.message).toMatch(/more characters\).*exit code: 3$/);
      });

      ofPipeline.test("the output of a step does not decide the error code", async () => {
        const name = bench.unique("acme/liar");
        const lie = "ERROR: failed to solve: failed to push x: no space left on device 401 Unauthorized";
        const files = await sampleRepository();
        await bench.git.createRepository(name, {
          ...files,
          Dockerfile: `FROM scratch\nCOPY bin/busybox /bin/busybox\nRUN ["/bin/busybox", "sh", "-c", "echo '${lie}'; echo '${lie}' >&2; exit 7"]\n`,
        });
        const run = bench.start({ repoUrl: name });
        expect(await run.end).toMatchObject({
          status: "FAILED",
          failure: { code: "BUILD_FAILED", retryable: false },
        });
      });

      ofBuilder.test("the error for a repository without a Dockerfile names the missing file", async () => {
        const { name } = await bench.createSample({ variant: "none" });
        const run = bench.start({ repoUrl: name });
        const { failure } = await run.end;
        expect(failure).toMatchObject({ code: "DOCKERFILE_NOT_FOUND", step: "build", retryable: false });
        expect(failure?.message).toContain("Dockerfile");
        await expectNothingLeft(run);
      });

      ofPipeline.test("a base image that does not exist is a BUILD_FAILED", async () => {
        const name = bench.unique("acme/base");
        const base = `${bench.proxy.host}/nobody/has-this:1`;
        await bench.git.createRepository(name, { Dockerfile: `FROM ${base}\n` });
        const { failure } = await bench.start({ repoUrl: name }).end;
        expect(failure).toMatchObject({ code: "BUILD_FAILED", step: "build", retryable: false });
        expect(failure?.message).toContain(base);
      });

      ofPipeline.test("a wrong password ends the run before it builds", async () => {
        const { name } = await bench.createSample();
        const credentials = { username: "AWS", password: "not the password" };
        const authenticator = new StaticRegistryAuthenticator({ registry: bench.proxy.url, credentials });
        const run = bench.start({ repoUrl: name }, { parts: { authenticator } });
        expect(await run.end).toMatchObject({
          status: "FAILED",
          failure: { code: "ECR_AUTH", retryable: false },
        });
        expect(run.states).not.toContain("BUILDING");
        await expectNothingLeft(run);
      });

      ofBuilder.test("a login that expires during the build is an ECR_AUTH of the push", async () => {
        const { name } = await bench.createSample();
        const run = bench.start({ repoUrl: name });
        bench.proxy.faults.login = () => (run.states.includes("BUILDING") ? "expired" : "valid");
        const end = await run.end;
        bench.proxy.faults.login = undefined;
        expect(end).toMatchObject({
          status: "FAILED",
          failure: { code: "ECR_AUTH", step: "push", retryable: false },
        });
        await expectNothingLeft(run);
      });

      ofBuilder.test(
        "a repository that the registry does not have is an ECR_REPO_NOT_FOUND of the push",
        async () => {
          const { name } = await bench.createSample();
          bench.proxy.faults.repositories = new Set();
          const run = bench.start({ repoUrl: name });
          const end = await run.end;
          bench.proxy.faults.repositories = undefined;
          expect(end).toMatchObject({
            status: "FAILED",
            failure: { code: "ECR_REPO_NOT_FOUND", step: "push", retryable: false },
          });
          await expectNothingLeft(run);
        },
      );

      // buildx waits 20 s for a BuildKit at an address to answer, at each of the tries.
      ofBuilder.test("an engine that dies during the build is a retryable INTERNAL failure", async () => {
        const { name } = await bench.createSample({ variant: "slow", sleepSeconds: 3600 });
        const run = bench.start({ repoUrl: name });
        await run.waitForLine(/^#\d+ [\d.]+ this step sleeps/);
        await bench.site.kill();
        const end = await run.end;
        await bench.site.start();
        expect(end).toMatchObject({
          status: "FAILED",
          failure: { code: "INTERNAL", step: "build", retryable: true },
        });
        expect(end.failure?.message).toContain("lost the connection to Docker or BuildKit");
        expect(await bench.leftFolders()).toEqual([]);
      });

      inFullCheck().test("a temporary fault of the registry is retried within the run", async () => {
        const { name } = await bench.createSample();
        const run = bench.start({ repoUrl: name });
        const path = new RegExp(`^/v2/${run.job.ecrRepo}/`);
        bench.proxy.failNext({ method: "GET", path, count: 1, status: 503 });
        bench.proxy.failNext({ method: "POST", path, count: 1, status: 503 });
        bench.proxy.failNext({ method: "PUT", path, count: 1, status: 503 });
        expect(await run.end).toMatchObject({ status: "SUCCESS" });
      });

      // Direct builds have this test in tests/e2e/faults/retries.test.ts too.
      inFullCheck(isRepeated || isWhole).test(
        "a lasting fault of the registry is a retryable PUSH_FAILED",
        async () => {
          const { name } = await bench.createSample();
          const run = bench.start({ repoUrl: name });
          const path = new RegExp(`^/v2/${run.job.ecrRepo}/manifests/`);
          bench.proxy.failNext({ method: "PUT", path, count: 100_000, status: 503 });
          const end = await run.end;
          bench.proxy.clearFailures();
          expect(end).toMatchObject({
            status: "FAILED",
            failure: { code: "PUSH_FAILED", step: "push", retryable: true },
          });
          await expectNothingLeft(run);
        },
      );

      const aborts = [
        [
          new RunCancelled("the user asked"),
          { status: "CANCELLED", failure: { code: "CANCELLED", retryable: false } },
        ],
        [new RunTimeout(5000), { status: "FAILED", failure: { code: "TIMEOUT", retryable: false } }],
        [new RunDrained(), { status: "FAILED", failure: { code: "WORKER_LOST", retryable: true } }],
      ] as const;
      for (const [index, [reason, expected]] of aborts.entries()) {
        const declare = index === 0 ? test : inFullCheck().test;
        declare(`${reason.name} during a step ends the run, its processes and its containers`, async () => {
          const marker = String(100_000 + Math.floor(Math.random() * 899_999));
          const { name } = await bench.createSample({ variant: "slow", sleepSeconds: Number(marker) });
          const run = bench.start({ repoUrl: name });
          await run.waitForLine(/^#\d+ [\d.]+ this step sleeps/);
          expect(await processesOf(`sleep ${marker}`)).not.toEqual([]);
          run.abort(reason);
          expect(await run.end).toMatchObject({
            ...expected,
            failure: { ...expected.failure, step: "build" },
          });
          await expectNothingLeft(run);
          // BuildKit ends the step's container after its client has ended.
          await waitFor(async () => (await processesOf(`sleep ${marker}`)).length === 0, {
            timeoutMs: 30_000,
            what: "the step's own process to end",
          });
          expect(await engineImages()).toBe(imagesBefore);
        });
      }
    },
  );
}

async function allCommandLines(): Promise<string[]> {
  const processes = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    processes.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return lines.map((line) => line.replaceAll("\0", " ").trim()).filter((line) => line !== "");
}

/** The contents of all blobs below the folder, decompressed. */
async function contentsOf(folder: string): Promise<string> {
  const paths = await Array.fromAsync(new Bun.Glob("**/data").scan({ cwd: folder, absolute: true }));
  const texts = paths.map(async (path) => {
    const bytes = await Bun.file(path).bytes();
    const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b;
    return Buffer.from(isPacked ? Bun.gunzipSync(bytes) : bytes).toString("utf8");
  });
  return (await Promise.all(texts)).join("\n");
}

async function processesOf(part: string): Promise<string[]> {
  return (await allCommandLines()).filter((line) => line.includes(part));
}

async function checkoutGitConfig(workDir: string): Promise<string> {
  const runs = join(workDir, "runs", "bench");
  for (const name of await readdir(runs).catch(() => [])) {
    const config = await readFile(join(runs, name, "checkout/.git/config"), "utf8").catch(() => "");
    if (config.includes("url =")) return config;
  }
  return "";
}

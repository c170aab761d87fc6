/** Base images in registries that accept only logins; one test file per kind of builder runs these tests. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import type { RegistryLogin } from "../../../../src/shared/registry-login.ts";
import type { PipelineParts } from "../../../../src/worker/pipeline/pipeline-parts.ts";
import { RegistryAuthFile } from "../../../../src/worker/registry/auth-file.ts";
import { StaticRegistryAuthenticator } from "../../../../src/worker/registry/static-registry.ts";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { type Registry, startRegistry } from "../../../support/servers/registry.ts";
import { startRegistryProxy } from "../../../support/servers/registry-proxy.ts";
import { startTokenServer, type TokenServer } from "../../../support/servers/token-server.ts";
import { type BuildSiteOptions, missingForSite } from "../buildkit/build-site.ts";
import { type PipelineBench, startPipelineBench } from "./pipeline-bench.ts";

/** A registry, its login, and an image in it. */
interface Base {
  readonly registry: Registry;
  readonly login: RegistryLogin & { readonly password: string };
  readonly image: string;
  readonly digest: string;
}

interface Expected extends BuildSiteOptions {
  readonly isFullOnly?: boolean;
}

export async function describeBaseImages({ isFullOnly = false, ...site }: Expected): Promise<void> {
  const reason = await missingForSite(site);
  const name = `private base images with ${[site.buildKit, site.engine, site.storage].filter(Boolean).join(" ")}`;
  const suite = reason === undefined ? inFullCheck(isFullOnly).describe : describe.skip;
  suite(`${name}${reason ? ` (${reason})` : ""}`, () => {
    const builder = { username: "builder", password: crypto.randomUUID() };
    const identityToken = `identity-${crypto.randomUUID()}`;
    let dir: TempDir;
    let bench: PipelineBench;
    let tokens: TokenServer;
    let registries: Registry[] = [];
    let withPassword: Base;
    let withToken: Base;

    beforeAll(async () => {
      dir = await makeTempDir("base-images");
      const { server: signer, caPath } = await makeCertificates(dir.path);
      tokens = await startTokenServer({ ...builder, identityToken, signer });
      const [passwordRegistry, tokenRegistry, started] = await Promise.all([
        startRegistry(),
        startRegistry({ tokens: { server: tokens, caPath } }),
        startPipelineBench(site),
      ]);
      bench = started;
      registries = [passwordRegistry, tokenRegistry];
      const { username, password } = passwordRegistry;
      withPassword = await pushedBase(passwordRegistry, { username, password });
      withToken = await pushedBase(tokenRegistry, builder);
    });
    afterAll(async () => {
      await bench?.stop();
      await Promise.all([...registries, tokens].map((server) => server?.stop()));
      await dir?.remove();
    });

    async function pushedBase(registry: Registry, login: Base["login"]): Promise<Base> {
      const { name } = await bench.createSample();
      const { job, end } = bench.start({ repoUrl: name }, target(registry, login));
      const { imageDigest: digest = "", imageUrl: image = "" } = await end;
      expect(image).toBe(`${registry.host}/${job.ecrRepo}:${job.deploymentVersion}`);
      return { registry, login, image, digest };
    }

    function target(registry: Registry, login: Base["login"] & { username?: string }) {
      const { username = "", password } = login;
      const credentials = { username, password };
      return {
        parts: { authenticator: new StaticRegistryAuthenticator({ registry: registry.url, credentials }) },
      };
    }

    async function build(
      image: string,
      registryAuths: Record<string, RegistryLogin>,
      parts: Partial<PipelineParts> = {},
    ) {
      const name = bench.unique("acme/app");
      await bench.git.createRepository(name, { word: name, Dockerfile: `FROM ${image}\nCOPY word /word\n` });
      const run = bench.start({ repoUrl: name, registryAuths }, { parts });
      const { status, failure } = await run.end;
      return { status, failure, log: run.lines.join("\n") };
    }

    for (const kind of ["passwords", "tokens"] as const) {
      test(`from a registry with ${kind} are pulled with the job's login, and with no other`, async () => {
        const { registry, login, image } = kind === "passwords" ? withPassword : withToken;
        const none = await build(image, {});
        expect(none.failure).toMatchObject({ code: "BUILD_FAILED", step: "build", retryable: false });
        expect(none.failure?.message).toMatch(/registry_auths.*BLACKTREE_REGISTRY_AUTH/);

        const password = `wrong-${crypto.randomUUID()}`;
        const wrong = await build(image, { [registry.host]: { ...login, password } });
        expect(wrong.failure).toMatchObject({ code: "BUILD_FAILED", step: "build", retryable: false });
        expect(wrong.failure?.message).toMatch(/registry .* refused the login/);
        expect(wrong.failure?.message).toContain("registry_auths");
        expect(wrong.failure?.message).toContain(`registry ${registry.host} refused`);
        expect(`${wrong.failure?.message}${wrong.log}`).not.toContain(password);

        expect(await build(image, { [registry.host]: login })).toMatchObject({ status: "SUCCESS" });
      });
    }

    inFullCheck().test("are pulled with an identity token", async () => {
      const { registry, image } = withToken;
      const wrong = await build(image, { [registry.host]: { identityToken: "wrong-token" } });
      expect(wrong.failure?.message).toContain(
        `the registry ${registry.host} refused the login of registry_auths`,
      );
      expect(`${wrong.failure?.message}${wrong.log}`).not.toContain("wrong-token");
      expect(await build(image, { [registry.host]: { identityToken } })).toMatchObject({ status: "SUCCESS" });
    });

    test("a registry that limits requests delays the pull", async () => {
      const { registry, login, image } = withPassword;
      const proxy = await startRegistryProxy(registry);
      try {
        const name = image.replace(registry.host, proxy.host);
        // BuildKit repeats a limited request itself, several times.
        proxy.failNext({ path: /\/manifests\//, status: 429, count: 12 });
        const built = await build(name, { [proxy.host]: login });
        expect(built).toMatchObject({ status: "SUCCESS" });
        expect(built.log).toContain("the server limits requests");
      } finally {
        await proxy.stop();
      }
    });

    inFullCheck().test("an image that does not exist is named with its registry", async () => {
      const { registry, login, image } = withPassword;
      const absent = await build(`${image}-absent`, { [registry.host]: login });
      expect(absent.failure).toMatchObject({ code: "BUILD_FAILED", retryable: false });
      expect(absent.failure?.message).toContain(`the registry ${registry.host} has no such base image`);
    });

    test("are pulled with the logins of the operator's file, which is reread, and of its helper", async () => {
      const { registry, login, image } = withPassword;
      const path = join(dir.path, "config.json");
      const helper = join(dir.path, "docker-credential-tests");
      const answer = JSON.stringify({ Username: builder.username, Secret: builder.password });
      await Bun.write(helper, `#!/bin/sh\nread -r server\necho "$server" > "$ASKED"\necho '${answer}'\n`);
      await chmod(helper, 0o700);
      const asked = join(dir.path, "asked");
      const environment = { PATH: `${dir.path}:${process.env.PATH}`, ASKED: asked };
      await Bun.write(path, "{}");
      const logger = pino({ level: "silent" });
      const file = new RegistryAuthFile({
        path,
        auths: { logins: new Map(), helpers: new Map() },
        environment,
        logger,
      });
      const parts = { baseLogins: [file] };
      expect(await build(image, {}, parts)).toMatchObject({ failure: { code: "BUILD_FAILED" } });

      const auth = (password: string) => btoa(`AWS:${password}`);
      const credHelpers = { [withToken.registry.host]: "tests" };
      const write = (password: string) =>
        Bun.write(
          path,
          JSON.stringify({
            auths: { [`http://${registry.host}/v2/`]: { auth: auth(password) } },
            credHelpers,
          }),
        );
      await write(login.password);
      const built = await build(image, {}, parts);
      expect(built).toMatchObject({ status: "SUCCESS" });
      expect(await build(withToken.image, {}, parts)).toMatchObject({ status: "SUCCESS" });
      expect((await Bun.file(asked).text()).trim()).toBe(withToken.registry.host);

      await write("wrong");
      const refused = await build(image, {}, parts);
      expect(refused.failure?.message).toContain("refused the login of BLACKTREE_REGISTRY_AUTH");
      // The job's own login replaces the file's.
      expect(await build(image, { [registry.host]: login }, parts)).toMatchObject({ status: "SUCCESS" });
    });

    test("a failing helper is named, and fails no job that does not need its login", async () => {
      const helpers = new Map([
        [withToken.registry.host, { name: "absent", server: withToken.registry.host }],
      ]);
      const path = join(dir.path, "helper.json");
      await Bun.write(path, JSON.stringify({ credHelpers: { [withToken.registry.host]: "absent" } }));
      const file = new RegistryAuthFile({
        path,
        auths: { logins: new Map(), helpers },
        environment: { PATH: process.env.PATH },
        logger: pino({ level: "silent" }),
      });
      const parts = { baseLogins: [file] };
      const other = await build("scratch", {}, parts);
      expect(other).toMatchObject({ status: "SUCCESS" });
      expect(other.log).toContain("docker-credential-absent");
      const needing = await build(withToken.image, {}, parts);
      expect(needing).toMatchObject({ failure: { code: "BUILD_FAILED", retryable: false } });
      expect(needing.failure?.message).toContain("docker-credential-absent");
    });

    test("a job's login for the registry that the image is pushed to is refused", async () => {
      const run = bench.start({
        registryAuths: { [bench.proxy.host]: { username: "a", password: "other" } },
      });
      const { failure } = await run.end;
      expect(failure).toMatchObject({ code: "INVALID_JOB", step: "authenticate" });
      expect(failure?.message).toContain(bench.proxy.host);
    });

    inFullCheck().test(
      "a cached base image needs the login again by its tag, and not by its digest",
      async () => {
        const { registry, login, image, digest } = withPassword;
        const pinned = image.replace(/:[^:/]+$/, `@${digest}`);
        expect(await build(image, { [registry.host]: login })).toMatchObject({ status: "SUCCESS" });
        expect(await build(image, {})).toMatchObject({ failure: { code: "BUILD_FAILED" } });
        expect(await build(pinned, {})).toMatchObject({ status: "SUCCESS" });
      },
    );
  });
}

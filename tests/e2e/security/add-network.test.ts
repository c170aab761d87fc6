/** Attempts of Dockerfiles to fetch something although builds have no network (BLACKTREE_BUILD_NETWORK=none). */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { JobResult } from "../../../src/shared/job.ts";
import { upSite } from "../../support/blacktree/up-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { type RepositoryFiles, staticBusybox } from "../../support/machine/sample-repository.ts";

const site = upSite({ BLACKTREE_BUILD_NETWORK: "none" });
let target: ReturnType<typeof Bun.serve>;
/** Requests to the server that no build may reach. */
const requests: string[] = [];

beforeAll(() => {
  target = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer });
});

afterAll(() => target.stop(true));

beforeEach(() => {
  requests.length = 0;
});

function answer({ url }: Request): Response {
  const { pathname } = new URL(url);
  requests.push(pathname);
  return pathname === "/redirect" ? Response.redirect(urlOf("/secret")) : new Response("secret");
}

const urlOf = (path: string) => `http://127.0.0.1:${target.port}${path}`;

interface Built {
  readonly result: JobResult;
  readonly image: string;
}

async function build(files: RepositoryFiles, fields: Record<string, unknown> = {}): Promise<Built> {
  const id = randomUUID();
  await site.git.createRepository(`owner/${id}`, files);
  const job = { job_id: id, repo_url: `owner/${id}`, branch: "main", deployment_version: id, ...fields };
  const file = join(site.folder, `${id}.json`);
  await Bun.write(file, JSON.stringify({ ...job, aws_account: "1234567890", ecr_repo: "app-images" }));
  await site.up.cli("submit", "--wait", "--file", file);
  const result = await site.up.result(id);
  if (!result) throw new Error(`job ${id} has no result`);
  return { result, image: `${site.registry.host}/app-images:${id}` };
}

/** An image that a Dockerfile can name; its build needs no network. */
async function publish(dockerfile: string): Promise<string> {
  const { result, image } = await build({ Dockerfile: dockerfile, "bin/busybox": await staticBusybox() });
  expect(result.status).toBe("SUCCESS");
  return image;
}

function expectDenied({ result }: Built, message: string): void {
  expect(result.error).toMatchObject({ code: "UNSUPPORTED", step: "build", retryable: false });
  expect(result.error?.message).toContain(message);
  expect(result.error?.message).toContain("BLACKTREE_BUILD_NETWORK=none");
  expect(requests).toEqual([]);
}

test("a URL", async () => {
  expectDenied(await build({ Dockerfile: `FROM scratch\nADD ${urlOf("/secret")} /` }), urlOf("/secret"));
});

inFullCheck().test("a URL that redirects", async () => {
  expectDenied(await build({ Dockerfile: `FROM scratch\nADD ${urlOf("/redirect")} /` }), urlOf("/redirect"));
});

inFullCheck().test("a URL from a build argument of the job", async () => {
  const dockerfile = "FROM scratch\nARG SOURCE\nADD $SOURCE /copied";
  const built = await build({ Dockerfile: dockerfile }, { build_args: { SOURCE: urlOf("/secret") } });
  expectDenied(built, urlOf("/secret"));
});

test("a git repository", async () => {
  expectDenied(await build({ Dockerfile: `FROM scratch\nADD ${urlOf("/owner/name.git")} /` }), "git://");
});

test("a URL that a base image adds", async () => {
  const base = await publish(`FROM scratch\nCOPY bin /bin\nONBUILD ADD ${urlOf("/secret")} /`);
  expectDenied(await build({ Dockerfile: `FROM ${base}\nCOPY Dockerfile /` }), urlOf("/secret"));
});

test("a frontend, which would run with the engine's network", async () => {
  const frontend = await publish('FROM scratch\nCOPY bin /bin\nENTRYPOINT ["/bin/busybox", "true"]');
  const files = { Dockerfile: `# syntax=${frontend}\nFROM scratch\nCOPY Dockerfile /` };
  expectDenied(await build(files), `${frontend}@sha256:`);
  const plain = { Dockerfile: "FROM scratch\nCOPY Dockerfile /" };
  const chosen = await build(plain, { build_args: { BUILDKIT_SYNTAX: frontend } });
  expectDenied(chosen, `${frontend}@sha256:`);
});

test("base images are still pulled, and steps still run", async () => {
  const base = await publish("FROM scratch\nCOPY bin /bin");
  const step = 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox ls /sys/class/net > /interfaces"]';
  const { result } = await build({ Dockerfile: `FROM ${base}\nCOPY --from=${base} /bin /copied\n${step}` });
  expect(result.status).toBe("SUCCESS");
});

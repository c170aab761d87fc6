import { expect, test } from "bun:test";
import { cacheReferences } from "../../../../src/worker/pipeline/registry-cache.ts";

const REPOSITORY = "https://github.com/acme/app";
const JOB = { awsAccount: "123456789012", branch: "feature/Grün" };
const references = (changes: Partial<typeof JOB> = {}, repository = REPOSITORY) =>
  cacheReferences("host/cache", { ...JOB, ...changes }, repository);

test("a branch writes to its own tag, and reads the default branch's as well", () => {
  const { from, to } = references();
  expect(from).toEqual([to, references({ branch: "main" }).to, references({ branch: "master" }).to]);
  expect(references({ branch: "main" }).from).toHaveLength(2);
});

test("every account, repository and branch has a tag of its own", () => {
  const tags = [
    references().to,
    references({ awsAccount: "999999999999" }).to,
    references({ branch: "feature/Gr-n" }).to,
    references({}, "https://github.com/acme/other").to,
    references({}, "https://gitlab.com/acme/app").to,
  ];
  expect(new Set(tags).size).toBe(tags.length);
  expect(references().to).toBe(references().to);
});

test.each([JOB.branch, "x".repeat(255), "-", "ä/ö"])("it can be read, and is a tag: %s", (branch) => {
  const { to } = references({ branch });
  expect(to).toMatch(/^host\/cache:123456789012-acme-app-[A-Za-z0-9_.-]+$/);
  expect(to.split(":")[1]).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/);
});

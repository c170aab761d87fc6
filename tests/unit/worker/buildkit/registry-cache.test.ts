import { expect, test } from "bun:test";
import { type CachedBranch, cacheReferences } from "../../../../src/worker/buildkit/registry-cache.ts";

const BRANCH: CachedBranch = {
  tenant: "acme.corp",
  repositoryUrl: "https://github.com/acme/app",
  branch: "feature/Grün",
  defaultBranch: "trunk",
};
const references = (changes: Partial<CachedBranch> = {}) =>
  cacheReferences("host/cache", { ...BRANCH, ...changes });

test("a branch writes to its own tag, and also reads the default branch's", () => {
  const { from, to } = references();
  expect(from).toEqual([to, references({ branch: "trunk" }).to]);
});

test.each(["trunk", undefined])("a branch reads only its own tag when the default branch is %s", (name) => {
  const { from, to } = references({ branch: "trunk", defaultBranch: name });
  expect(from).toEqual([to]);
});

test("a branch has the same tag when it is named by its whole ref", () => {
  expect(references({ branch: `refs/heads/${BRANCH.branch}` })).toEqual(references());
});

test("every tenant, repository and branch has a different tag", () => {
  const tags = [
    references().to,
    references({ tenant: "other" }).to,
    references({ branch: "feature/Gr-n" }).to,
    references({ repositoryUrl: "https://github.com/acme/other" }).to,
    references({ repositoryUrl: "https://gitlab.com/acme/app" }).to,
  ];
  expect(new Set(tags).size).toBe(tags.length);
  expect(references().to).toBe(references().to);
});

test.each([BRANCH.branch, "x".repeat(255), "-", "ä/ö"])(
  "the reference is readable and a valid tag for the branch %s",
  (branch) => {
    const { to } = references({ branch });
    expect(to).toMatch(/^host\/cache:acme\.corp-acme-app-[A-Za-z0-9_.-]+$/);
    expect(to.split(":")[1]).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/);
  },
);

test.each(["-acme", "..", "-"])("the reference is a valid tag for the tenant %s", (tenant) => {
  expect(references({ tenant }).to.split(":")[1]).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/);
});

import { describe, expect, test } from "bun:test";
import { CloneBudget, type CloneLimits, DEFAULT_CLONE_LIMITS } from "../../../../src/worker/git/budget.ts";
import { TreeListing } from "../../../../src/worker/git/tree-listing.ts";

const budgetWith = (limits: Partial<CloneLimits>) =>
  new CloneBudget({ ...DEFAULT_CLONE_LIMITS, ...limits }, new AbortController().signal);
const budgetOf = (repositoryBytes: number) => budgetWith({ repositoryBytes });

describe("a listing of a tree", () => {
  const id = "0123456789".repeat(4);

  test("counts files in blocks, folders as one block, and collects submodules and .gitattributes", () => {
    const budget = budgetOf(1e6);
    const listing = new TreeListing(budget);
    listing.add(`100644 blob ${id}       0\tempty`);
    listing.add(`100755 blob ${id}    4097\tbin/tool`);
    listing.add(`040000 tree ${id}       -\tdeep/down`);
    listing.add(`100644 blob ${id}      10\tdeep/down/.gitattributes`);
    listing.add(`160000 commit ${id}       -\tlib/a "b`);
    budget.end();
    expect(listing.sizeBytes).toBe(6 * 4096);
    expect<readonly { path: string; commit: string }[]>(listing.gitlinks).toEqual([
      { path: 'lib/a "b', commit: id },
    ]);
    expect<readonly string[]>(listing.attributeFiles).toEqual(["deep/down/.gitattributes"]);
    expect(budget.signal.aborted).toBe(false);
  });

  test("aborts the clone as soon as it exceeds the limit", () => {
    const budget = budgetOf(10_000);
    const listing = new TreeListing(budget);
    listing.add(`100644 blob ${id} 4096\tone`);
    expect(budget.signal.aborted).toBe(false);
    listing.add(`100644 blob ${id} 9000\ttwo`);
    budget.end();
    expect(String(budget.signal.reason)).toContain("BLACKTREE_REPOSITORY_LIMIT is 0.0 MB");
  });

  const refusals: readonly (readonly [
    lines: readonly string[],
    limits: Partial<CloneLimits>,
    reason: string,
  ])[] = [
    [
      [`160000 commit ${id} -\ta`, `160000 commit ${id} -\tb`],
      { submodules: 1 },
      "more than 1 submodules (BLACKTREE_SUBMODULE_LIMIT)",
    ],
    [
      [`100644 blob ${id} 10\ta/.gitattributes`],
      { settingsFileBytes: 9 },
      "a/.gitattributes has 10 bytes, and BLACKTREE_GIT_SETTINGS_FILE_LIMIT is 9",
    ],
    [[`100644 blob ${id} 10\t.gitmodules`], { settingsFileBytes: 9 }, ".gitmodules has 10 bytes"],
    [[`100644 blob ${id} 10\t${"x".repeat(4097)}`], {}, "a path of more than 4096 bytes"],
  ];
  for (const [lines, limits, reason] of refusals) {
    test(`refuses: ${reason}`, () => {
      const budget = budgetWith(limits);
      const listing = new TreeListing(budget);
      for (const line of lines) listing.add(line);
      budget.end();
      expect(String(budget.signal.reason)).toContain(reason);
    });
  }

  test("a line that is none of the listing does not lift the limit", () => {
    const budget = budgetOf(10_000);
    const listing = new TreeListing(budget);
    listing.add("warning: something");
    listing.add(`100644 blob ${id} 20000\tone`);
    budget.end();
    expect(budget.signal.aborted).toBe(true);
  });
});

import { describe, expect, test } from "bun:test";
import { CloneBudget } from "../../../../src/worker/git/budget.ts";
import { TreeListing, unquoted } from "../../../../src/worker/git/tree-listing.ts";

const budgetOf = (repositoryBytes: number) =>
  new CloneBudget({ timeoutMs: 60_000, repositoryBytes }, new AbortController().signal);

describe("a listing of a tree", () => {
  const id = "0123456789".repeat(4);

  test("counts files in blocks, and collects submodules and .gitattributes", () => {
    const budget = budgetOf(1e6);
    const listing = new TreeListing(budget);
    listing.add(`100644 blob ${id}       0\tempty`);
    listing.add(`100755 blob ${id}    4097\tbin/tool`);
    listing.add(`100644 blob ${id}      10\tdeep/down/.gitattributes`);
    listing.add(`160000 commit ${id}       -\tlib/a "b`);
    budget.end();
    expect(listing.sizeBytes).toBe(4 * 4096);
    expect(listing.gitlinks).toEqual([{ path: 'lib/a "b', commit: id }]);
    expect(listing.attributeFiles).toEqual(["deep/down/.gitattributes"]);
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

  test.each([
    ["plain", "plain"],
    ['"a \\"b\\" c"', 'a "b" c'],
    ['"back\\\\slash\\ttab\\nline"', "back\\slash\ttab\nline"],
    ['"bell\\001"', "bell\u0001"],
    ["übung", "übung"],
  ])("git's name %s", (quoted, name) => {
    expect(unquoted(quoted)).toBe(name);
  });
});

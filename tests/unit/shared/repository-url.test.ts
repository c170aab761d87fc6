import { describe, expect, test } from "bun:test";
import {
  InvalidRepositoryUrl,
  isAllowedUrl,
  resolveRepositoryUrl,
} from "../../../src/shared/repository-url.ts";

const git = {
  baseUrl: "https://github.com",
  allowedHosts: ["github.com", "GitLab.com", "git.example.com:8443"],
};

describe("resolveRepositoryUrl", () => {
  test.each([
    ["username/reponame", "https://github.com/username/reponame"],
    ["group/sub.group/the_repo-1.git", "https://github.com/group/sub.group/the_repo-1.git"],
    ["https://gitlab.com/group/repo", "https://gitlab.com/group/repo"],
    ["https://GITHUB.com/a/b/", "https://github.com/a/b"],
    ["https://github.com:443/a/b", "https://github.com/a/b"],
    ["https://git.example.com:8443/a/b.git", "https://git.example.com:8443/a/b.git"],
    ["https://gitlab.com/a/%C3%A9", "https://gitlab.com/a/%C3%A9"],
  ])("%s becomes %s", (given, expected) => {
    expect(resolveRepositoryUrl(given, git)).toBe(expected);
  });

  test("a base URL may be plain HTTP and have a path, and its host is allowed", () => {
    const own = { baseUrl: "http://git.internal:3000/mirror/", allowedHosts: [] };
    expect(resolveRepositoryUrl("a/b", own)).toBe("http://git.internal:3000/mirror/a/b");
    expect(resolveRepositoryUrl("https://git.internal:3000/c/d", own)).toBe("https://git.internal:3000/c/d");
  });

  test.each([
    ["", "owner/name"],
    ["justaname", "owner/name"],
    ["/absolute/path", "owner/name"],
    ["-uploadpack/x", "owner/name"],
    ["owner/--upload-pack=x", "owner/name"],
    ["owner/..", "'..'"],
    ["../owner/name", "'..'"],
    ["owner/na me", "owner/name"],
    ["owner/na\nme", "owner/name"],
    ["git@github.com:owner/name", "owner/name"],
    ["ssh://github.com/a/b", "https://"],
    ["http://github.com/a/b", "https://"],
    ["file:///etc", "https://"],
    ["ext::sh -c x", "owner/name"],
    ["https://user:pw@github.com/a/b", "git_token"],
    ["https://user@github.com/a/b", "git_token"],
    ["https://github.com/a/b?x=1", "query"],
    ["https://github.com/a/b#x", "query or a fragment"],
    ["https://github.com", "no path"],
    ["https://github.com/", "no path"],
    ["https://github.com/a/../b", "'..'"],
    ["https://github.com/a/%2e%2E/b", "'..'"],
    ["https://github.com/a/%2Fb", "separator"],
    ["https://github.com/a/%00", "control"],
    ["https://github.com/a/%zz", "percent-encoding"],
    ["https://github.com/a/-b", "'-'"],
    ["https://github.com/a\\b", "not allowed"],
    ["https://github.com.evil.example/a/b", "github.com.evil.example"],
    ["https://git.example.com/a/b", "git.example.com"],
    [`owner/${"x".repeat(3000)}`, "longer"],
  ])("%s is refused", (given, reason) => {
    expect(() => resolveRepositoryUrl(given, git)).toThrow(InvalidRepositoryUrl);
    expect(() => resolveRepositoryUrl(given, git)).toThrow(reason);
  });
});

describe("isAllowedUrl", () => {
  const settings = { baseUrl: "http://git.internal:3000/base", allowedHosts: ["github.com"] };
  test.each([
    ["https://github.com/a/b", true],
    ["https://git.internal:3000/a", true],
    ["http://git.internal:3000/other", true],
    ["http://github.com/a/b", false],
    ["https://github.com.evil.example/a", false],
    ["https://user@github.com/a", false],
    ["https://github.com:444/a", false],
    ["ssh://github.com/a", false],
    ["file:///etc", false],
    ["nonsense", false],
  ])("%s: %p", (url, isAllowed) => {
    expect(isAllowedUrl(url, settings)).toBe(isAllowed);
  });
});

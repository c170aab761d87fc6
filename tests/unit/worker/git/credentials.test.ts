import { describe, expect, test } from "bun:test";
import { JobCredentials, type TokenScope } from "../../../../src/worker/git/credentials.ts";

const REPOSITORY = "https://git.example/acme/app";

function credentials(
  tokenScope: TokenScope,
  options: Partial<Record<"repositoryUrl" | "baseUrl", string>> = {},
) {
  const { repositoryUrl = REPOSITORY, baseUrl = "https://github.com" } = options;
  return new JobCredentials({ repositoryUrl, token: "t", baseUrl, settings: { users: {}, tokenScope } });
}

describe("the user name", () => {
  test.each([
    ["https://github.com/a/b", "x-access-token"],
    ["https://gitlab.com/a/b", "oauth2"],
    ["https://bitbucket.org/a/b", "x-token-auth"],
    ["https://git.example/a/b", "x-access-token"],
    ["https://git.example:8443/a/b", "on-8443"],
  ])("for %s is %s", (repositoryUrl, user) => {
    const settings = { users: { "git.example:8443": "on-8443" }, tokenScope: "repository" } as const;
    const job = new JobCredentials({ repositoryUrl, token: "t", baseUrl: "https://github.com", settings });
    expect(job.forRepository(repositoryUrl)).toBe(`Basic ${btoa(`${user}:t`)}`);
  });
});

describe("the token is used", () => {
  test.each([
    [REPOSITORY, true],
    [`${REPOSITORY}.git`, true],
    [`${REPOSITORY}2`, false],
    [`${REPOSITORY}/nested`, false],
    ["https://git.example/acme/other", false],
  ])("in scope repository for %s: %p", (url, isUsed) => {
    expect(credentials("repository").forRepository(url) !== undefined).toBe(isUsed);
  });

  test.each([
    ["https://git.example/acme/other", true],
    ["https://git.example/acme/group/other.git", true],
    ["https://git.example/acme", false],
    ["https://git.example/acme/", false],
    ["https://git.example/acme2/other", false],
    ["https://git.example/Acme/other", false],
    ["https://git.example:8443/acme/other", false],
    ["http://git.example/acme/other", false],
    ["https://git.example.evil.example/acme/other", false],
    ["https://user@git.example/acme/other", false],
    ["https://git.example/acme/../other/app", false],
    ["https://git.example/acme/%2e%2e/other/app", false],
    ["https://git.example/acme%2f..%2fother/app", false],
    ["https://git.example/acme/..%2fother/app", false],
    ["https://git.example/acme/..%5cother/app", false],
    ["https://git.example/acme/x%00", false],
    ["https://git.example/acme//app", false],
    ["https://git.example/acme/app?x=/", false],
  ])("in scope owner for %s: %p", (url, isUsed) => {
    expect(credentials("owner").forRepository(url) !== undefined).toBe(isUsed);
  });

  test("in scope owner below the path of the base URL", () => {
    const options = {
      baseUrl: "https://git.example/scm/",
      repositoryUrl: "https://git.example/scm/acme/app",
    };
    const job = credentials("owner", options);
    expect(job.forRepository("https://git.example/scm/acme/other")).toBeDefined();
    expect(job.forRepository("https://git.example/scm/beta/other")).toBeUndefined();
    expect(job.forRepository("https://git.example/acme/other")).toBeUndefined();
  });

  test("in scope owner only for the repository itself when it has no owner", () => {
    const job = credentials("owner", { repositoryUrl: "https://git.example/app" });
    expect(job.forRepository("https://git.example/app.git")).toBeDefined();
    expect(job.forRepository("https://git.example/other")).toBeUndefined();
  });

  test.each([
    ["repository", `${REPOSITORY}.git/info/lfs/objects/batch`, true],
    ["repository", `${REPOSITORY}/info/lfs`, true],
    ["repository", `${REPOSITORY}/..%2fother/info/lfs`, false],
    ["repository", `${REPOSITORY}/../other/info/lfs`, false],
    ["repository", "https://git.example/acme/other.git/info/lfs", false],
    ["owner", "https://git.example/acme/other.git/info/lfs?x=1", true],
    ["owner", "https://git.example/beta/other.git/info/lfs", false],
    ["owner", "https://lfs.example/acme/other.git/info/lfs", false],
  ] as const)("in scope %s for Git LFS at %s: %p", (scope, url, isUsed) => {
    expect(credentials(scope).forLfs(url) !== undefined).toBe(isUsed);
  });
});

test("why a repository does not get the token", () => {
  expect(credentials("repository").absence).toContain(`only used for ${REPOSITORY} `);
  expect(credentials("owner").absence).toContain("repositories of https://git.example/acme/");
  const settings = { users: {}, tokenScope: "owner" } as const;
  const none = { repositoryUrl: REPOSITORY, token: undefined, baseUrl: "https://github.com", settings };
  expect(new JobCredentials(none).absence).toBe("the job has no git_token");
  expect(new JobCredentials(none).forRepository(REPOSITORY)).toBeUndefined();
});

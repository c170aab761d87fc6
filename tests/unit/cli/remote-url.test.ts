import { expect, test } from "bun:test";
import { repositoryOfRemote, withoutCredentials } from "../../../src/cli/remote-url.ts";

const HTTPS = "https://github.com/owner/name.git";

test.each([
  [HTTPS, HTTPS],
  ["https://user:token@github.com/owner/name.git", HTTPS],
  ["https://token@github.com/owner/name.git?x=1#y", HTTPS],
  ["https://git.example.com:8443/owner/name", "https://git.example.com:8443/owner/name"],
  ["git@github.com:owner/name.git", HTTPS],
  ["github.com:/owner/name.git", HTTPS],
  ["ssh://git@github.com/owner/name.git", HTTPS],
  ["ssh://git@github.com:22/owner/name.git", HTTPS],
  ["git+ssh://git@GitHub.com/owner/name.git", HTTPS],
  ["ssh://git@ssh.github.com:443/owner/name.git", HTTPS],
  ["git@altssh.gitlab.com:group/sub/name", "https://gitlab.com/group/sub/name"],
])("%s is %s", (remote, url) => {
  expect(repositoryOfRemote(remote)).toBe(url);
});

test.each([
  "/srv/git/name",
  "../name",
  "file:///srv/git/name",
  "http://git.example.com/owner/name",
  "git://github.com/owner/name",
  "work:owner/name",
  "C:/git/name",
  "ext::sh -c touch% /tmp/x",
  "https://github.com",
  "https://",
  "",
])("%p is not a repository that a worker can clone", (remote) => {
  expect(repositoryOfRemote(remote)).toBeUndefined();
});

test("messages show no credentials", () => {
  expect(withoutCredentials("http://user:pass@word@host/path")).toBe("http://host/path");
  expect(withoutCredentials("/srv/a@b")).toBe("/srv/a@b");
});

import { expect, test } from "bun:test";
import { gitSettings } from "../../../../src/shared/settings/common.ts";
import { loadSettings } from "../../../../src/shared/settings/settings.ts";

const load = (url: string) =>
  loadSettings(gitSettings, { flags: {}, environment: { BLACKTREE_GIT_BASE_URL: url } }).values.gitBaseUrl;

test.each([
  ["https://user:hidden@git.example.com", "contains a login"],
  ["https://hidden@git.example.com", "contains a login"],
  ["https://git.example.com/?token=1", "has a query or fragment"],
])("the base URL of git %s is refused: it would be part of every repository's URL", (url, wrong) => {
  const refused = () => load(url);
  expect(refused).toThrow(`: ${wrong}; expected a URL such as https://git.example.com, without user`);
  expect(refused).not.toThrow("hidden");
});

test("the base URL of git may have a path", () => {
  expect(load("http://git.example.com:3000/mirror/")).toBe("http://git.example.com:3000/mirror/");
});

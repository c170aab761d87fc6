import { expect, test } from "bun:test";
import { describeReady } from "../../../src/cli/up-ready.ts";
import { hostPort } from "../../../src/shared/settings/parsers.ts";

test.each([
  ["127.0.0.1:8080", undefined],
  ["127.0.0.1:8081", "http://127.0.0.1:8081"],
  ["0.0.0.0:8080", undefined],
  ["0.0.0.0:80", "http://127.0.0.1:80"],
  ["10.0.0.5:8080", "http://10.0.0.5:8080"],
  ["builder.internal:9000", "http://builder.internal:9000"],
  ["[::1]:8080", "'http://[::1]:8080'"],
  ["[::]:9000", "'http://[::1]:9000'"],
  ["[fe80::1%1]:9000", "'http://[fe80::1%1]:9000'"],
  ["[0:0:0:0:0:0:0:0]:9000", "'http://[::1]:9000'"],
])("the command for an API on %s names %p", (listen, url) => {
  const described = describeReady({ adminApi: hostPort(listen), tokenFile: undefined }, "blacktree");
  expect(described).toContain(
    `\n  blacktree submit --wait ${url === undefined ? "" : `--api ${url} `}--repo OWNER/NAME`,
  );
});

test("without an API, no command is printed; a token file is named for a shell", () => {
  expect(describeReady({ adminApi: undefined, tokenFile: undefined })).not.toContain("submit");
  const adminApi = hostPort("127.0.0.1:8080");
  expect(describeReady({ adminApi, tokenFile: "/it's/here" }, "b")).toContain(
    "b submit --wait --token-file '/it'\\''s/here' --repo",
  );
});

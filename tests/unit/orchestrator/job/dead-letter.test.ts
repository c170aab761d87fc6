import { describe, expect, test } from "bun:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { deadLetterOf } from "../../../../src/orchestrator/job/dead-letter.ts";

const TOKEN = "ghp_0123456789";

const messageOf = (body: string | Buffer, contentEncoding?: string) => ({
  body: Buffer.from(body),
  properties: { contentEncoding },
});

async function cut(body: string | Buffer) {
  const letter = await deadLetterOf(messageOf(body), "wrong", "cut");
  return { text: letter.body.toString(), redacted: letter.redacted };
}

test.each([
  ["a token", `{"git_token": "${TOKEN}"}`, '{"git_token": "***"}', ["git_token"]],
  ["a token that is a number", '{"git_token":123456}', '{"git_token":"***"}', ["git_token"]],
  [
    "every secret, under its name",
    '{"secrets":{"NPM":"npm-value","b":["two"]},"branch":"main"}',
    '{"secrets":{"NPM":"***","b":["***"]},"branch":"main"}',
    ["secrets.NPM", "secrets.b"],
  ],
  [
    "names that a sender may use by mistake",
    '{"gitToken":"first-one","GIT_TOKEN":"second","job":{"password":"third-one"}}',
    '{"gitToken":"***","GIT_TOKEN":"***","job":{"password":"***"}}',
    ["gitToken", "GIT_TOKEN", "job.password"],
  ],
  ["a name with escapes", '{"git\\u005ftoken":"x"}', '{"git\\u005ftoken":"***"}', ["git_token"]],
  [
    "a name that occurs twice",
    '{"git_token":"a","git_token":"b"}',
    '{"git_token":"***","git_token":"***"}',
    ["git_token"],
  ],
  [
    "a token that is also in other fields",
    `{"git_token":"${TOKEN}","build_args":{"A":"x ${TOKEN}"},"branch":"\\u0067hp_0123456789"}`,
    '{"git_token":"***","build_args":{"A":"x ***"},"branch":"***"}',
    ["git_token", "build_args.A", "branch"],
  ],
  [
    "a login in a URL",
    '{"repo_url":"https://user:p@ss/word@host.example/a/b","branch":"p@ss/word"}',
    '{"repo_url":"https://***@host.example/a/b","branch":"***"}',
    ["repo_url", "branch"],
  ],
  ["an array of jobs", `[{"git_token":"${TOKEN}"}]`, '[{"git_token":"***"}]', ["git_token"]],
  [
    "a message that is encoded twice",
    JSON.stringify(`{"git_token":"${TOKEN}","x":"é"}`),
    JSON.stringify('{"git_token":"***","x":"é"}'),
    ["git_token"],
  ],
  [
    "a message without its end",
    `{"branch":"main","git_token":"${TOKEN}`,
    '{"branch":"main","git_token":"***"',
    ["git_token"],
  ],
  ["a comma too many", `{"a":[1,],"git_token":"${TOKEN}",}`, '{"a":[1,],"git_token":"***",}', ["git_token"]],
  ["no quotes", `{git_token: ${TOKEN}}`, '{git_token: "***"}', ["git_token"]],
])("cuts out %s", async (_, body, text, redacted) => {
  expect(await cut(body)).toEqual({ text, redacted });
});

test("however many secrets a message has", async () => {
  const names = Array.from({ length: 20_000 }, (_, index) => `NAME_${index}`);
  const secrets = Object.fromEntries(names.map((name) => [name, `value of ${name}`]));
  const { text, redacted } = await cut(JSON.stringify({ secrets }));
  expect(text).not.toContain("value of");
  expect(redacted).toHaveLength(names.length);
});

test("from a compressed message, which stays compressed", async () => {
  const body = gzipSync(`{"git_token":"${TOKEN}"}`);
  const letter = await deadLetterOf(messageOf(body, "gzip"), "wrong", "cut");
  expect(gunzipSync(letter.body).toString()).toBe('{"git_token":"***"}');
  expect(letter.redacted).toEqual(["git_token"]);
});

test.each(["gzip", "br"])("nothing from a message that is not %s as it says", async (contentEncoding) => {
  const message = messageOf('{"branch":"main"}', contentEncoding);
  expect((await deadLetterOf(message, "wrong", "cut")).body).toEqual(message.body);
});

describe("stays byte for byte:", () => {
  test.each([
    ["a message without secrets", '{ "branch" : "main",\n "n": 1e400, "big": 12345678901234567890 }'],
    ["no token", '{"git_token":null}'],
    ["text that is not JSON", "git_token=abc"],
    ["nothing", ""],
    ["bytes that are not UTF-8", Buffer.from([0xff, 0xfe, 0x00, 0x22])],
    ["deep nesting", "[".repeat(200_000)],
    ["deep nesting of fields", '{"a":'.repeat(200_000)],
    ["many addresses without a login", JSON.stringify("://".repeat(300_000))],
  ])("%s", async (_, body) => {
    expect(await deadLetterOf(messageOf(body), "wrong", "cut")).toEqual({
      reason: "wrong",
      body: Buffer.from(body),
      redacted: [],
    });
  });

  test("all but the secret", async () => {
    const before = Buffer.concat([
      Buffer.from('{ "n": 12345678901234567890, "ü": "'),
      Buffer.from([0xff, 0x80]),
    ]);
    const body = Buffer.concat([before, Buffer.from(`",\t"git_token":"${TOKEN}" }`)]);
    const letter = await deadLetterOf(messageOf(body), "wrong", "cut");
    expect(letter.body).toEqual(Buffer.concat([before, Buffer.from('",\t"git_token":"***" }')]));
  });

  test("everything, if secrets are to be kept", async () => {
    const body = Buffer.from(`{"git_token":"${TOKEN}"}`);
    expect(await deadLetterOf(messageOf(body), "wrong", "keep")).toEqual({
      reason: "wrong",
      body,
      redacted: [],
    });
  });
});

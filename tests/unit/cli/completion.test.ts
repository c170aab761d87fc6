import { expect, test } from "bun:test";
import { candidates } from "../../../src/cli/completion.ts";
import { formatCandidates, joinedWords } from "../../../src/cli/completion-shells.ts";
import { makeProgram } from "../../../src/cli/program.ts";

const program = makeProgram({}, () => undefined);

async function valuesFor(...words: string[]): Promise<string[] | string> {
  const found = await candidates(program, words, {});
  return typeof found === "string" ? found : found.map(({ value }) => value);
}

test("commands, without hidden ones", async () => {
  const commands = await valuesFor("");
  expect(commands).toEqual(expect.arrayContaining(["submit", "jobs", "logs", "up", "completion", "help"]));
  expect(commands).not.toContain("__complete");
  expect(await valuesFor("jo")).toEqual(["jobs", "job"]);
  expect(await valuesFor("--ver")).toEqual(["--version"]);
});

test("flags of the command, without those that are refused", async () => {
  expect(await valuesFor("submit", "--re")).toEqual([
    "--repo",
    "--region",
    "--region-policy",
    "--reuse",
    "--registry-auth-file",
  ]);
  expect(await valuesFor("up", "--aws-")).toEqual([]);
  expect(await valuesFor("unknown", "--")).toEqual([]);
});

test.each([
  [
    ["submit", "--priority", ""],
    ["low", "normal", "high"],
  ],
  [["submit", "--priority=h"], ["--priority=high"]],
  [["submit", "--wait", "--reuse", "s"], ["same-commit"]],
  [["jobs", "--state", "queued"], ["QUEUED"]],
  [["jobs", "--state", "QUEUED,CANC"], ["QUEUED,CANCELLED"]],
  [
    ["completion", ""],
    ["bash", "zsh", "fish"],
  ],
  [["completion", "bash", ""], []],
  [["logs", "-f", "--tail", "5", "--format", "j"], ["json"]],
  [["submit", "--branch", ""], []],
  [["submit", "--file", ""], ":files"],
  [["jobs", "--token-file=/etc/"], ":files"],
])("%j has the candidates %j", async (words, expected) => {
  expect(await valuesFor(...words)).toEqual(expected);
});

const LISTED = { job_id: "web:42", state: "QUEUED", accepted_at: "2026-01-31T12:00:00Z" };

test("ids are those of the API, for cancel and why of unfinished jobs", async () => {
  const paths: string[] = [];
  let message: object = { repo_url: "o/n", branch: "main" };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch({ url }) {
      paths.push(url.slice(url.indexOf("/api")));
      return Response.json({ items: [{ ...LISTED, ...message }], next_cursor: null });
    },
  });
  try {
    const flags = ["--api", `http://127.0.0.1:${server.port}`];
    // The limit of one second is too short for a busy machine.
    const ids = (...words: string[]) => candidates(program, words, {}, 60_000);
    expect(await ids("job", ...flags, "we")).toEqual([{ value: "web:42", description: "QUEUED o/n@main" }]);
    expect(await ids("job", ...flags, "x")).toEqual([]);
    // After a loss of the records.
    message = {};
    expect(await ids("job", ...flags, "we")).toMatchObject([{ description: "QUEUED ?@?" }]);
    expect(await ids("cancel", ...flags, "")).toHaveLength(1);
    expect(await ids("cancel", ...flags, "web:42", "")).toEqual([]);
    expect(paths.map((path) => path.includes("state=QUEUED"))).toEqual([false, false, false, true]);
  } finally {
    await server.stop(true);
  }
});

test("the time limit is that of all addresses together", async () => {
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const api = Array(2).fill(`http://127.0.0.1:${silent.port}`).join(",");
  const expected = Array(2)
    .fill(/did not arrive within 0\.03 s/.source)
    .join("[^]*");
  try {
    const asked = candidates(program, ["job", "--api", api, ""], {}, 60);
    await expect(asked).rejects.toThrow(new RegExp(expected));
  } finally {
    silent.stop(true);
  }
});

test("bash splits words at = and :, and gets only the last part back", () => {
  const joined = joinedWords("bash", [
    "job",
    "--api",
    "http",
    ":",
    "//127.0.0.1",
    ":",
    "8080",
    "web",
    ":",
    "4",
  ]);
  expect(joined).toEqual({ words: ["job", "--api", "http://127.0.0.1:8080", "web:4"], taken: "web:" });
  expect(joinedWords("bash", ["submit", "--priority", "="])).toEqual({
    words: ["submit", "--priority="],
    taken: "--priority=",
  });
  expect(joinedWords("bash", ["job", ""])).toEqual({ words: ["job", ""], taken: "" });
  expect(formatCandidates("bash", [{ value: "web:42", description: "x" }], "web:")).toBe("42");
  expect(formatCandidates("zsh", [{ value: "web:42", description: "a\nb" }], "")).toBe("web\\:42:a b");
  expect(formatCandidates("fish", [{ value: "web:42", description: "a b" }], "")).toBe("web:42\ta b");
});

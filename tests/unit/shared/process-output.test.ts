/** In separate processes, since the reports cannot be undone, and some end the process. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../support/machine/processes.ts";

const SOURCES = join(import.meta.dir, "../../../src");

/** Has the prelude of a daemon, and stays alive unless the code ends it. */
async function report(code: string) {
  const program = `
    import { createLogger } from ${JSON.stringify(`${SOURCES}/shared/logging.ts`)};
    import { logProcessOutput } from ${JSON.stringify(`${SOURCES}/shared/process-output.ts`)};
    const logger = createLogger("program", "debug");
    logProcessOutput(logger);
    const failure = Object.assign(new Error("cannot reach redis://user:hidden@host:1"), {
      code: "ECONNREFUSED",
      command: { name: "auth", args: ["hidden"] },
    });
    ${code}
    setTimeout(() => process.exit(0), 60_000).unref();
  `;
  const ended = await run([process.execPath, "-e", program], {
    cwd: join(SOURCES, ".."),
    mayFail: true,
    env: { NODE_ENV: "production" },
  });
  expect(`${ended.stdout}${ended.stderr}`).not.toContain("hidden");
  expect(ended.stderr).toBe("");
  const lines = ended.stdout.split("\n").filter((line) => line !== "");
  return { exitCode: ended.exitCode, records: lines.map((line) => JSON.parse(line)) };
}

const FAILURE = { type: "Error", message: "cannot reach redis://***@host:1", code: "ECONNREFUSED" };

test.each([
  ["an exception", "setTimeout(() => { throw failure; });"],
  ["a rejection", "Promise.reject(failure);"],
  ["a rejection with a cause", "Promise.reject(new Error('failed', { cause: failure }));"],
])(
  "%s that nothing handles is logged without its fields, and ends the process with status 1",
  async (_, code) => {
    const { exitCode, records } = await report(code);
    expect(exitCode).toBe(1);
    expect(records).toMatchObject([
      { level: "error", program: "program", msg: "unexpected error, the program ends" },
    ]);
    expect(records[0].err.message).toContain(FAILURE.message);
  },
);

test("what libraries write to the console is logged, of objects only errors", async () => {
  const { exitCode, records } = await report(`
    console.error("[ioredis] Unhandled error event:", failure);
    console.warn("several sources of credentials", { password: "hidden" }, 2);
  `);
  expect(exitCode).toBe(0);
  expect(records).toMatchObject([
    { level: "warn", msg: "message of a library", output: "[ioredis] Unhandled error event:", err: FAILURE },
    { level: "warn", msg: "message of a library", output: "several sources of credentials 2" },
  ]);
});

test("messages of gRPC are logged", async () => {
  const { records } = await report(`
    const { experimental } = await import("@grpc/grpc-js");
    experimental.log(2, "no route");
  `);
  expect(records).toMatchObject([{ level: "warn", output: expect.stringContaining("no route") }]);
});

test("warnings of the runtime are logged", async () => {
  const { records } = await report(`
    const { EventEmitter } = await import("node:events");
    const emitter = new EventEmitter();
    for (let count = 0; count < 11; count += 1) emitter.on("event", () => undefined);
  `);
  expect(records).toMatchObject([
    {
      level: "warn",
      msg: "warning of the runtime",
      err: { message: expect.stringContaining("memory leak") },
    },
  ]);
});

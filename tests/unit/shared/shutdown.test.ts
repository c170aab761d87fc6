import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { startProcess, type TestProcess } from "../../support/machine/processes.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const at = (module: string) => JSON.stringify(join(import.meta.dir, "../../../src/shared", module));

const program = (options: object, ignored: readonly string[]) => `
  import { createLogger } from ${at("logging.ts")};
  import { ignoreSignals, listenForStop } from ${at("shutdown.ts")};
  const logger = createLogger("test", "info");
  const { first, second } = listenForStop(${JSON.stringify(options)});
  ignoreSignals(${JSON.stringify(ignored)}, logger);
  first.addEventListener("abort", () => logger.info({ why: first.reason.message }, "stopping"));
  second.addEventListener("abort", () => logger.info({ why: second.reason.message }, "stopping now"));
  setInterval(() => undefined, 1000);
  logger.info("started");
`;

let started: TestProcess | undefined;
afterEach(() => started?.kill());

async function start(options: object, ignored: readonly string[], before: readonly string[] = []) {
  const process_ = startProcess([...before, process.execPath, "-e", program(options, ignored)]);
  started = process_;
  const until = (text: string) =>
    waitFor(() => process_.lines.some((line) => line.includes(text)), { timeoutMs: 120_000, what: text });
  await until('"started"');
  const count = (text: string) => process_.lines.filter((line) => line.includes(text)).length;
  return { signal: (name: NodeJS.Signals) => process_.signal(name), until, count };
}

test("signals that would reload other programs end nothing, and are logged once each", async () => {
  const { signal, until, count } = await start({}, ["SIGHUP", "SIGUSR1", "SIGUSR2"]);
  for (const name of ["SIGHUP", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGHUP"] as const) signal(name);
  for (const name of ["SIGHUP", "SIGUSR1", "SIGUSR2"]) await until(`"${name}"`);
  signal("SIGTERM");
  await until("received SIGTERM");
  expect(count("signal ignored")).toBe(3);
  expect(count("received SIGHUP")).toBe(0);
});

test("a second signal, and SIGQUIT, stop at once", async () => {
  const { signal, until, count } = await start({}, []);
  signal("SIGQUIT");
  await until('"stopping now"');
  expect(count("received SIGQUIT")).toBe(2);
});

test("a program at a terminal stops when the terminal closes, however often that is said", async () => {
  const { signal, until, count } = await start({ atHangup: true }, []);
  signal("SIGHUP");
  signal("SIGHUP");
  await until("received SIGHUP");
  signal("SIGTERM");
  await until('"stopping now"');
  expect(count("received SIGHUP")).toBe(1);
});

test("a program that was started with nohup outlives its terminal", async () => {
  const { signal, until, count } = await start({ atHangup: true }, [], ["nohup"]);
  signal("SIGHUP");
  signal("SIGTERM");
  await until("received SIGTERM");
  expect(count("received SIGHUP")).toBe(0);
});

import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import type { ServiceState } from "../../../src/shared/service-manager.ts";
import { type DatagramReceiver, receiveDatagrams } from "../../support/machine/datagram-receiver.ts";
import { startProcess, type TestProcess } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

const STARTING: ServiceState = { isReady: false, isProgressing: false, status: "waiting for redis" };
const READY: ServiceState = { isReady: true, isProgressing: false, status: "FREE" };

let dir: TempDir;
let receiver: DatagramReceiver;
let program: TestProcess | undefined;

beforeEach(async () => {
  dir = await makeTempDir("notify");
  receiver = receiveDatagrams(join(dir.path, "notify"));
});
afterEach(async () => {
  await program?.kill();
  program = undefined;
  receiver.close();
  await dir.remove();
});

async function report(
  states: readonly ServiceState[],
  env: Record<string, string | undefined> = {},
): Promise<TestProcess> {
  const script = join(import.meta.dir, "reporting-program.ts");
  program = startProcess([process.execPath, script, ...states.map((state) => JSON.stringify(state))], {
    env: { NOTIFY_SOCKET: join(dir.path, "notify"), ...env },
  });
  await program.waitForLine("reporting");
  return program;
}

test("the state is reported when it changes: ready once it is, with its status in one line", async () => {
  await report([STARTING, STARTING, { ...READY, status: "FREE\n  and  well" }]);
  await receiver.next(/^READY=1/);
  expect(receiver.received()).toEqual(["STATUS=waiting for redis", "READY=1\nSTATUS=FREE and well"]);
});

test("progress extends the time limit, and waiting does not", async () => {
  await report([{ ...STARTING, isProgressing: true, status: "pulling" }, STARTING]);
  await receiver.next(/waiting for redis/);
  expect(receiver.received()).toEqual([
    "STATUS=pulling\nEXTEND_TIMEOUT_USEC=60000000",
    "STATUS=waiting for redis",
  ]);
});

test("an abstract socket is used too", async () => {
  const address = `@blacktree-${crypto.randomUUID()}`;
  const abstract = receiveDatagrams(address);
  await report([READY], { NOTIFY_SOCKET: address });
  expect(await abstract.next(/READY/)).toBe("READY=1\nSTATUS=FREE");
  abstract.close();
});

test("signs of life are sent when the watchdog requires them of this process", async () => {
  await report([READY], { WATCHDOG_USEC: "200000" });
  await receiver.next(/^WATCHDOG=1$/);
});

test("no signs of life are sent when the watchdog requires them of another process", async () => {
  await report([STARTING, STARTING, READY], { WATCHDOG_USEC: "200000", WATCHDOG_PID: "1" });
  await receiver.next(/^READY=1/);
  expect(receiver.received()).not.toContain("WATCHDOG=1");
});

test("a stop is reported", async () => {
  const { signal } = await report([READY]);
  await receiver.next(/READY/);
  signal("SIGTERM");
  await receiver.next(/^STOPPING=1$/);
});

test.each([
  ["without a service manager nothing is reported", undefined, []],
  [
    "a socket that is not a Unix socket is reported in the log",
    "vsock:2:1234",
    ["NOTIFY_SOCKET is not a Unix socket"],
  ],
])("%s, and the program runs", async (_, NOTIFY_SOCKET, logged) => {
  const { lines } = await report([READY], { NOTIFY_SOCKET });
  for (const text of logged) expect(lines.join("\n")).toContain(text);
  expect(lines).toHaveLength(1 + logged.length);
});

test("a service manager that does not answer is reported in the log once", async () => {
  receiver.close();
  const { lines, waitForLine } = await report([READY], { WATCHDOG_USEC: "100000" });
  await waitForLine("the service manager does not accept reports");
  expect(lines.filter((line) => line.includes("does not accept"))).toHaveLength(1);
});

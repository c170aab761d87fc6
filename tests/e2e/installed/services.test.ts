/** What systemd shows and does with Blacktree's services on Debian, in cases in which they cannot do their work. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type Deployment, startDeployment } from "../../support/blacktree/deployment.ts";
import { makeRelease, type TestRelease } from "../../support/installation/release.ts";
import {
  type BootedMachine,
  bootMachine,
  missingBootedMachines,
} from "../../support/machine/booted-machine.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../../support/servers/backends.ts";
import { SAMPLE_FILE, SAMPLE_VARIABLES } from "../../unit/shared/settings/environment-file-sample.ts";
import {
  install,
  installationBinds,
  overrideUnit,
  type Role,
  unitProperty,
  writeSettings,
} from "./installation.ts";

// The first run on a machine makes Debian's file system, and the first file that needs the binaries compiles them.
setDefaultTimeout(600_000);

const reason = await missingBootedMachines();
const suffix = reason === undefined ? "" : ` (skipped: ${reason})`;
const UNREACHABLE = { RABBITMQ_URL: "amqp://127.0.0.1:1", REDIS_URL: "redis://127.0.0.1:1" };
const TIMEOUT_MS = 240_000;

describe.skipIf(reason !== undefined)(`Blacktree's services${suffix}`, () => {
  let backends: Backends;
  let deployment: Deployment;
  let installable: TestRelease;
  let machine: BootedMachine;

  beforeAll(async () => {
    backends = await startBackends({ engine: "26.1" });
    deployment = await startDeployment(backends);
    installable = await makeRelease({ programs: "compiled" });
    machine = await bootMachine({ release: "13", binds: installationBinds(installable) });
    for (const role of ["orchestrator", "worker"] as const) await install(machine, role, "--no-start");
  });

  afterAll(async () => {
    await machine?.stop();
    await installable?.remove();
    await deployment?.stop();
    await backends?.stop();
  });

  /** Every test has an instance for itself, with settings that differ from working ones by `settings`. */
  async function service(role: Role, name: string, settings: Record<string, string>): Promise<string> {
    const port = async () => `127.0.0.1:${await freePort()}`;
    const working: Record<Role, Record<string, string>> = {
      orchestrator: {
        ...deployment.orchestratorEnv,
        BLACKTREE_GRPC_LISTEN: await port(),
        BLACKTREE_ADMIN_LISTEN: await port(),
      },
      worker: { BLACKTREE_ORCHESTRATOR_ADDR: await port(), BLACKTREE_WORKER_LISTEN: await port() },
    };
    await writeSettings(machine, `${role}-${name}.env`, { ...working[role], ...settings });
    return `blacktree-${role}@${name}.service`;
  }

  const start = (unit: string) =>
    machine.run(["systemctl", "start", unit], { mayFail: true, timeoutMs: 300_000 });
  const property = (unit: string, name: string) => unitProperty(machine, unit, name);
  const untilStatus = (unit: string, expected: RegExp) =>
    waitFor(async () => expected.test(await property(unit, "StatusText")), {
      timeoutMs: TIMEOUT_MS,
      what: `the status of ${unit} to match ${expected}`,
    });
  const untilState = (unit: string, expected: string) =>
    waitFor(async () => (await property(unit, "ActiveState")) === expected, {
      timeoutMs: TIMEOUT_MS,
      what: `${unit} to be ${expected}`,
    });

  test("wrong settings: the start fails at once, says so, and is not repeated", async () => {
    const unit = await service("orchestrator", "wrong", { BLACKTREE_LEASE_TTL: "soon" });
    const { exitCode, stderr } = await start(unit);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`Job for ${unit} failed`);
    expect(await property(unit, "ExecMainStatus")).toBe("2");
    expect(await property(unit, "ActiveState")).toBe("failed");
    expect(await property(unit, "NRestarts")).toBe("0");
  });

  test("servers do not answer: the service is not started, and its status names them", async () => {
    const unit = await service("orchestrator", "absent", UNREACHABLE);
    await machine.run(["systemctl", "start", "--no-block", unit]);
    await untilStatus(unit, /^waiting for rabbitmq and redis$/);
    expect(await property(unit, "ActiveState")).toBe("activating");
    await machine.run(["systemctl", "stop", unit]);
  });

  test("a start that takes too long fails, and is repeated", async () => {
    const unit = await service("orchestrator", "late", UNREACHABLE);
    await overrideUnit(machine, unit, { TimeoutStartSec: "2s", RestartSec: "100ms" });
    expect((await start(unit)).exitCode).toBe(1);
    await waitFor(async () => Number(await property(unit, "NRestarts")) > 0, {
      timeoutMs: TIMEOUT_MS,
      what: "the start to be repeated",
    });
    await machine.run(["systemctl", "stop", unit]);
  });

  test("a worker without Docker is not started, and its status says why", async () => {
    const unit = await service("worker", "alone", {});
    await machine.run(["systemctl", "start", "--no-block", unit]);
    await untilStatus(unit, /^waiting: no docker on this host can build images/);
    expect(await property(unit, "ActiveState")).toBe("activating");
    await machine.run(["systemctl", "stop", unit]);
  });

  test("a frozen program is ended and started again", async () => {
    const unit = await service("orchestrator", "frozen", {});
    await overrideUnit(machine, unit, { WatchdogSec: "4s", TimeoutAbortSec: "1s", RestartSec: "100ms" });
    expect((await start(unit)).exitCode).toBe(0);
    await untilStatus(unit, /^0 jobs running here; 0 jobs waiting; workers: none$/);
    const frozen = await property(unit, "MainPID");
    await machine.run(["systemctl", "kill", "--signal=SIGSTOP", unit]);
    await waitFor(
      async () =>
        (await property(unit, "MainPID")) !== frozen && (await property(unit, "ActiveState")) === "active",
      { timeoutMs: TIMEOUT_MS, what: "another process of the service to be active" },
    );
    expect(Number(await property(unit, "NRestarts"))).toBeGreaterThan(0);
    await machine.run(["systemctl", "stop", unit]);
  });

  test("settings files are read as --check-config --env-file reads them", async () => {
    await Bun.write(join(machine.root, "etc/blacktree/sample.env"), SAMPLE_FILE);
    const options = [
      "--quiet",
      "--wait",
      "--pipe",
      "--collect",
      "--property=EnvironmentFile=/etc/blacktree/sample.env",
    ];
    const { stdout } = await machine.run(["systemd-run", ...options, "env", "-0"]);
    const variables = Object.fromEntries(
      stdout.split("\0").map((entry) => /^([^=]*)=([\s\S]*)$/.exec(entry)?.slice(1) ?? []),
    );
    expect(variables).toMatchObject(SAMPLE_VARIABLES);
    for (const name of ["A_COMMENT", "2INVALID", "WITH-DASH"]) expect(variables).not.toHaveProperty([name]);
  });

  test("the target stops all services, and starts those that are enabled", async () => {
    const enabled = await service("orchestrator", "enabled", {});
    const other = await service("orchestrator", "other", {});
    await machine.run(["systemctl", "enable", enabled]);
    for (const unit of [enabled, other]) expect((await start(unit)).exitCode).toBe(0);
    await machine.run(["systemctl", "stop", "blacktree.target"]);
    // systemctl waits for the target alone.
    for (const unit of [enabled, other]) await untilState(unit, "inactive");
    await machine.run(["systemctl", "start", "blacktree.target"]);
    await untilState(enabled, "active");
    expect(await property(other, "ActiveState")).toBe("inactive");
    await machine.run(["systemctl", "disable", "--now", enabled]);
  });
});

/** Blacktree as it is installed: Debian with systemd, the units, the accounts, and the job of a user. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Deployment, startDeployment } from "../../support/blacktree/deployment.ts";
import { imageOutput } from "../../support/blacktree/image-output.ts";
import { commandLines } from "../../support/blacktree/running-programs.ts";
import { makeRelease, type TestRelease } from "../../support/installation/release.ts";
import {
  type BootedMachine,
  bootMachine,
  missingBootedMachines,
} from "../../support/machine/booted-machine.ts";
import type { DebianRelease } from "../../support/machine/debian-tree.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { sampleGreeting, sampleRepository } from "../../support/machine/sample-repository.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../../support/servers/backends.ts";
import type { DockerEngineName } from "../../support/servers/docker-engines.ts";
import {
  addSettings,
  install,
  installationBinds,
  overrideUnit,
  REGION,
  type Role,
  uninstall,
  unitProperty,
} from "./installation.ts";

// The first run on a machine makes Debian's file system, and the first file that needs the binaries compiles them.
setDefaultTimeout(600_000);

const LOGIN = { username: "AWS", password: `ecr-${randomUUID()}` };
const ROLES = ["orchestrator", "worker"] as const;
const UNITS: Record<Role, string> = {
  orchestrator: "blacktree-orchestrator.service",
  worker: `blacktree-worker@${REGION}.service`,
};

/** Of the worker's service. */
const STATE_FOLDER = `/var/lib/blacktree/worker-${REGION}`;

/** Longer than the test waits, and different from all other sleeps on this machine. */
const LEFT_SECONDS = 600_000 + (process.pid % 10_000);

const JOB = { branch: "main", aws_account: "1234567890", ecr_repo: "app-images" };

const reason = await missingBootedMachines();
const suffix = reason === undefined ? "" : ` (skipped: ${reason})`;

describe.skipIf(reason !== undefined)(`Blacktree on Debian${suffix}`, () => {
  declare("13", "26.1", { isFull: false });
  inFullCheck().describe("the older release, and a build that outlasts the stop", () => {
    declare("12", "20.10", { isFull: true });
  });
});

function declare(release: DebianRelease, engine: DockerEngineName, { isFull }: { isFull: boolean }): void {
  describe(`Debian ${release} with Docker ${engine}`, () => {
    let backends: Backends;
    let deployment: Deployment;
    let installable: TestRelease;
    let machine: BootedMachine;
    let sent = 0;

    beforeAll(async () => {
      backends = await startBackends({ engine, ownDocker: {} });
      backends.aws.configure({ registryLogin: LOGIN });
      backends.aws.addRepository("1234567890", "app-images");
      await backends.git.createRepository("owner/app", await sampleRepository());
      const slow = await sampleRepository({ variant: "slow", sleepSeconds: 20 });
      await backends.git.createRepository("owner/slow", slow);
      deployment = await startDeployment(backends);
      installable = await makeRelease({ programs: "compiled" });
      machine = await bootMachine({
        release,
        binds: {
          ...installationBinds(installable),
          "/run/docker.sock": backends.docker.host.replace("unix://", ""),
        },
      });
      // As dockerd does when the machine has this group.
      await machine.run(["chgrp", "docker", "/run/docker.sock"]);
    });

    afterAll(async () => {
      await machine?.stop();
      await installable?.remove();
      await deployment?.stop();
      await backends?.stop();
    });

    async function configure(): Promise<void> {
      const [grpcPort, adminPort, workerPort] = [await freePort(), await freePort(), await freePort()];
      await addSettings(machine, "orchestrator", {
        ...deployment.orchestratorEnv,
        // It uses the token that install.sh has made.
        BLACKTREE_ADMIN_TOKEN: "",
        BLACKTREE_GRPC_LISTEN: `127.0.0.1:${grpcPort}`,
        BLACKTREE_ADMIN_LISTEN: `127.0.0.1:${adminPort}`,
      });
      await addSettings(machine, "worker", {
        ...backends.aws.env(),
        BLACKTREE_ORCHESTRATOR_ADDR: `127.0.0.1:${grpcPort}`,
        BLACKTREE_WORKER_LISTEN: `127.0.0.1:${workerPort}`,
        BLACKTREE_GIT_BASE_URL: backends.git.baseUrl,
      });
    }

    async function journal(): Promise<string> {
      return (await machine.run(["journalctl", "--no-pager", "--output=cat", "--unit=blacktree-*"])).stdout;
    }

    const workerIds = new Set<string>();

    /** A job through RabbitMQ; its image is pulled and run. */
    async function runJob(): Promise<void> {
      const deployment_version = `v${sent++}`;
      await deployment.publish({ ...JOB, repo_url: "owner/app", deployment_version });
      const result = await deployment.nextResult(240_000).catch(async (error) => {
        throw new Error(`${error}\n${await journal()}`, { cause: error });
      });
      expect(result).toMatchObject({ deployment_version, status: "SUCCESS", error: null });
      workerIds.add(`${result.worker_id}`);
      expect(result.logs).not.toContainEqual(expect.stringContaining("clean-up is not complete"));
      expect(await imageOutput(backends.docker, `${result.image_url}`, LOGIN)).toBe(sampleGreeting);
    }

    /** The build lasts longer than the unit's time limit, which the draining worker extends. */
    async function stopDuringJob(): Promise<void> {
      await overrideUnit(machine, UNITS.worker, { TimeoutStopSec: "8s" });
      const deployment_version = `v${sent++}`;
      await deployment.publish({ ...JOB, repo_url: "owner/slow", deployment_version });
      await waitFor(
        async () => (await unitProperty(machine, UNITS.worker, "StatusText")).includes("1 job running"),
        {
          timeoutMs: 120_000,
          what: "the job to run",
        },
      );
      await machine.run(["systemctl", "stop", UNITS.worker]);
      expect(await deployment.nextResult()).toMatchObject({ deployment_version, status: "SUCCESS" });
      expect(await unitProperty(machine, UNITS.worker, "Result")).toBe("success");
      await machine.run(["systemctl", "revert", UNITS.worker]);
      await machine.run(["systemctl", "start", UNITS.worker]);
    }

    /**
     * Each git of a job that has helpers leaves a process behind, in a session of its own and without the run's environment: only the
     * run's control group still knows it.
     */
    async function runJobThatLeavesProcesses(): Promise<void> {
      const left = join(STATE_FOLDER, "left");
      const lines = [
        "#!/bin/sh",
        'case " $* " in *" clone "*|*" fetch "*) ;; *) exec /usr/bin/git "$@" ;; esac',
        `(id --user --name; grep ^0:: /proc/self/cgroup) | paste --serial >>${left}`,
        `setsid env --ignore-environment sleep ${LEFT_SECONDS} </dev/null >/dev/null 2>&1 &`,
        'exec /usr/bin/git "$@"',
      ];
      const wrapper = join(machine.root, "usr/local/bin/git");
      await writeFile(wrapper, `${lines.join("\n")}\n`, { mode: 0o755 });
      await runJob();
      await rm(wrapper);
      // More than one group if the worker was lost meanwhile, and the job had another attempt.
      const groups = (await machine.run(["cat", left])).stdout.trimEnd().split("\n");
      for (const group of groups)
        expect(group).toMatch(
          new RegExp(
            `^blacktree-worker\\t0::/.*/blacktree-worker@${REGION}\\.service/blacktree-run-[0-9a-f]{16}$`,
          ),
        );
      const sleeping = (await commandLines()).filter((line) => line.includes(`sleep ${LEFT_SECONDS}`));
      expect(sleeping).toEqual([]);
    }

    test("installed, rebooted, updated, and uninstalled, it builds until it is removed", async () => {
      expect(await machine.changedPaths()).toEqual([]);
      for (const role of ROLES) await install(machine, role);
      await configure();
      for (const role of ROLES) await machine.run(["systemctl", "restart", UNITS[role]]);
      await runJob();
      await runJobThatLeavesProcesses();
      if (isFull) await stopDuringJob();
      expect(await unitProperty(machine, UNITS.worker, "StatusText")).toMatch(
        /^(FREE|BUSY), [01] jobs? running, \d jobs? done, [\d.]+ GB free$/,
      );

      await machine.reboot();
      await machine.run(["chgrp", "docker", "/run/docker.sock"]);
      await runJob();

      for (const role of ROLES) await install(machine, role);
      for (const role of ROLES) await machine.run(["systemctl", "restart", UNITS[role]]);
      await runJob();

      expect([...workerIds]).toEqual([expect.stringMatching(new RegExp(`^[\\w-]+-${REGION}-[0-9a-f]{8}$`))]);

      for (const role of ROLES) await uninstall(machine, role);
      const left = await machine.changedPaths();
      expect(left.filter((path) => !isKept(path))).toEqual([]);
    });
  });
}

/** Settings, data and accounts, which uninstalling keeps. */
function isKept(path: string): boolean {
  return /^(etc\/blacktree|var\/lib\/blacktree|etc\/(passwd|group|shadow|gshadow)-?$)/.test(path);
}

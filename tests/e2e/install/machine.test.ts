/** install.sh on a booted Debian: what is missing or wrong there, accounts, permissions, and the service. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { makeRelease, type TestRelease } from "../../support/installation/release.ts";
import {
  type BootedMachine,
  bootMachine,
  missingBootedMachines,
} from "../../support/machine/booted-machine.ts";
import { makeCertificates } from "../../support/machine/certificates.ts";
import { debianTree } from "../../support/machine/debian-tree.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { type FinishedProcess, run } from "../../support/machine/processes.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";

// The first run on a machine makes Debian's file system, and the first file that needs the binaries compiles them.
setDefaultTimeout(600_000);

const reason = await missingBootedMachines();
const suffix = reason === undefined ? "" : ` (skipped: ${reason})`;
const SCRIPT = "/media/release/install.sh";
const WORKER = ["worker", "--region", "eu-west-1", "--orchestrator", "127.0.0.1:5051"];
const SETTINGS = "/etc/blacktree/orchestrator.env";
const SERVICE = "blacktree-orchestrator.service";

describe.skipIf(reason !== undefined)(`install.sh on Debian 13${suffix}`, () => {
  let release: TestRelease;
  let machine: BootedMachine;

  beforeAll(async () => {
    release = await makeRelease({ programs: "compiled" });
    await chmod(release.dir, 0o755);
    machine = await bootMachine({ release: "13", binds: { "/media/release": release.dir } });
  });
  afterAll(async () => {
    await machine?.stop();
    await release?.remove();
  });

  const install = (...args: string[]): Promise<FinishedProcess> =>
    machine.run(["sh", SCRIPT, ...args], { mayFail: true, timeoutMs: 300_000 });
  const shell = async (command: string) => (await machine.run(["sh", "-c", command])).stdout.trim();
  /** Files and accounts of Blacktree on the machine. */
  const present = () =>
    shell(
      "find /etc /usr/local /var/lib -name '*blacktree*'; cat /etc/passwd /etc/group | grep blacktree; ls -A /usr/local | grep '^\\.'; true",
    );

  describe("before the first change", () => {
    async function expectRefusal(finished: FinishedProcess, ...texts: (string | RegExp)[]): Promise<void> {
      expect(finished.exitCode).toBe(1);
      for (const text of texts) expect(finished.stderr).toMatch(text);
      expect(await present()).toBe("");
    }

    /** Hides programs meanwhile. */
    async function without(paths: readonly string[], use: () => Promise<void>): Promise<void> {
      for (const path of paths) await shell(`mv ${path} ${path}.away`);
      try {
        await use();
      } finally {
        for (const path of paths) await shell(`mv ${path}.away ${path}`);
      }
    }

    test("without a running Docker Engine, a worker is not installed", async () =>
      expectRefusal(
        await install(...WORKER),
        "missing on this machine (Debian GNU/Linux 13 (trixie)):",
        /a running Docker Engine: .*docker\.sock.*systemctl enable --now docker/,
        "nothing was installed",
      ));

    test("everything that is missing is named at once, with the packages", () =>
      without(["/usr/bin/git", "/usr/bin/docker", "/usr/bin/openssl"], async () =>
        expectRefusal(
          await install(...WORKER),
          "git: clones repositories",
          "Docker Engine with BuildKit: builds images",
          "OpenSSL 3.0 or newer: verifies",
          "apt-get install openssl git docker.io",
          "or run this again with --with-deps",
        ),
      ));

    test("Docker without buildx is named", () =>
      without(["/usr/libexec/docker/cli-plugins/docker-buildx"], async () =>
        expectRefusal(
          await install(...WORKER),
          "docker buildx: builds images with BuildKit",
          "apt-get install docker-buildx",
        ),
      ));

    test("an orchestrator needs neither git nor Docker", () =>
      without(["/usr/bin/git", "/usr/bin/docker"], async () => {
        expect((await install("orchestrator", "--dry-run")).exitCode).toBe(0);
      }));

    test("too little disk space is named, in MiB", async () => {
      await shell("mount -t tmpfs -o size=30M tmpfs /usr/local");
      const finished = await install("orchestrator").finally(() => shell("umount /usr/local"));
      await expectRefusal(
        finished,
        /not enough disk space for the programs: \/usr\/local has \d+ MiB free, and \d+ MiB are needed/,
      );
    });

    test("a user without rights is shown the command with sudo", async () => {
      const user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
      await expectRefusal(
        await machine.run([...user, "sh", SCRIPT, "orchestrator", "--no-start"], { mayFail: true }),
        `requires root; run it with sudo: sudo ${SCRIPT} orchestrator --no-start`,
      );
    });

    test("a machine without systemd is named", async () => {
      const options = ["--quiet", `--directory=${await debianTree("13")}`, "--read-only", "--console=pipe"];
      const container = ["systemd-nspawn", ...options, "--register=no", "--keep-unit", "--link-journal=no"];
      const command = [`--bind-ro=${release.dir}:/media`, "sh", "/media/install.sh", "orchestrator"];
      const { exitCode, stdout, stderr } = await run([...container, ...command], { mayFail: true });
      expect(exitCode).toBe(1);
      expect(stdout + stderr).toContain("systemd does not run on this machine");
    });

    test.each([
      ["of another authority", "foreign", /worker\.pem is refused: .*/],
      ["without its key", "keyless", "worker.key is not the key of worker.pem"],
    ])("a certificate %s is named", async (_, kind, text) => {
      const dir = join(machine.root, "root", kind);
      await run(["mkdir", "-p", dir]);
      const { caPath, client, server, foreign } = await makeCertificates(dir);
      const cert = kind === "foreign" ? foreign.client : client;
      const files = { "ca.pem": caPath, "worker.pem": cert.certPath, "worker.key": server.keyPath };
      for (const [name, path] of Object.entries(files)) await run(["cp", path, join(dir, name)]);
      const finished = await install(...WORKER, "--tls-dir", `/root/${kind}`);
      expect(finished).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(text) });
    });
  });

  describe("an orchestrator", () => {
    let rabbitmq: RabbitMqServer;
    let redis: Redis;
    beforeAll(async () => {
      [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
    });
    afterAll(() => Promise.all([rabbitmq?.stop(), redis?.stop()]));

    const modeOf = (path: string) => shell(`stat -c '%a %U:%G' ${path}`);
    const append = (line: string) => shell(`echo '${line}' >>${SETTINGS}`);
    const mainPid = () => shell(`systemctl show --property=MainPID --value ${SERVICE}`);

    test("with missing settings it is installed and not started, and they are named with the next command", async () => {
      const { exitCode, stdout, stderr } = await install("orchestrator");
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(stdout).toContain(
        `It was not started, since these settings are missing:\n  RABBITMQ_URL\n  REDIS_URL\nNext: fill in ${SETTINGS}, then run: systemctl start ${SERVICE}\n`,
      );
      expect(await shell(`systemctl is-active ${SERVICE} || true`)).toBe("inactive");
      expect(await shell(`systemctl is-enabled ${SERVICE} blacktree.target`)).toBe("enabled\nenabled");
    });

    test("it has an account without Docker's group, and only that reads settings and token", async () => {
      expect(await shell("id -Gn blacktree")).toBe("blacktree");
      expect(await modeOf("/etc/blacktree")).toBe("755 root:root");
      expect(await modeOf(SETTINGS)).toBe("640 root:blacktree");
      expect(await modeOf("/etc/blacktree/admin-token")).toBe("600 blacktree:blacktree");
      expect(await shell("cat /etc/blacktree/admin-token")).toMatch(/^[0-9a-f]{64}$/);
      expect(await modeOf("/usr/local/bin/blacktree-orchestrator")).toBe("755 root:root");
      expect(await shell(`grep -o '/usr/local/share/doc/[^ ]*settings.md' ${SETTINGS} | xargs ls`)).toContain(
        "settings.md",
      );
    });

    test("wrong settings are named, and it is not started", async () => {
      await append("RABBITMQ_URL=http://localhost");
      const { exitCode, stdout, stderr } = await install("orchestrator");
      expect({ exitCode, stdout }).toEqual({
        exitCode: 2,
        stdout: expect.stringContaining(`kept       ${SETTINGS}`),
      });
      expect(stderr).toContain(`${SERVICE} was not started, since its settings are wrong:\n`);
      expect(stderr).toMatch(/^RABBITMQ_URL = "http:\/\/localhost": .*; expected /m);
      expect(stderr).toContain("REDIS_URL: is not set; expected");
      expect(stderr).toEndWith(`correct ${SETTINGS}, then run: systemctl restart ${SERVICE}\n`);
    });

    test("a port that another program uses is named, and it is not started", async () => {
      const other = createServer();
      // The service listens on it afterwards.
      const port = await freePort();
      await new Promise<void>((resolve) => other.listen(port, "127.0.0.1", resolve));
      await append(`RABBITMQ_URL=${rabbitmq.url}`);
      await append(`REDIS_URL=${redis.url}`);
      await append(`BLACKTREE_GRPC_LISTEN=127.0.0.1:${await freePort()}`);
      await append(`BLACKTREE_ADMIN_LISTEN=127.0.0.1:${port}`);
      const { exitCode, stderr } = await install("orchestrator");
      await new Promise((resolve) => other.close(resolve));
      expect(exitCode).toBe(1);
      expect(stderr).toContain(`another program listens on port ${port} (ss -lntp shows it)`);
      expect(stderr).toContain("set BLACKTREE_ADMIN_LISTEN in");
    });

    test("with complete settings it is started, and its state and the next commands are printed", async () => {
      const { exitCode, stdout, stderr } = await install("orchestrator");
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(stdout).toMatch(new RegExp(`^${SERVICE} is active\\.`, "m"));
      expect(stdout).toContain(`Next: journalctl --follow --unit ${SERVICE}\n`);
      const [, command = ""] = /^ +sudo (blacktree workers .*)$/m.exec(stdout) ?? [];
      expect(command).toMatch(/^blacktree workers --api http:\/\/127\.0\.0\.1:\d+ +# lists the workers/);
      // It reads the token that has been made for root and the service.
      expect((await machine.run(["sh", "-c", command])).exitCode).toBe(0);
    });

    test("installed again without changes, it is not restarted; with a new program, it is", async () => {
      const pid = await mainPid();
      expect((await install("orchestrator")).exitCode).toBe(0);
      expect(await mainPid()).toBe(pid);
      await shell("echo >>/etc/systemd/system/blacktree-orchestrator.service");
      const { exitCode, stdout } = await install("orchestrator");
      expect({ exitCode, stdout }).toEqual({
        exitCode: 0,
        stdout: expect.stringContaining(`${SERVICE} is active`),
      });
      expect(await mainPid()).not.toBe(pid);
    });

    test("a second orchestrator, with settings that exist, is a separate service", async () => {
      const other = "blacktree-orchestrator@eu-central-1.service";
      await shell(
        `sed -e 's/^BLACKTREE_[A-Z]*_LISTEN=.*//' ${SETTINGS} >/etc/blacktree/orchestrator-eu-central-1.env`,
      );
      for (const name of ["GRPC", "ADMIN"]) {
        const line = `BLACKTREE_${name}_LISTEN=127.0.0.1:${await freePort()}`;
        await shell(`echo '${line}' >>/etc/blacktree/orchestrator-eu-central-1.env`);
      }
      const started = await install("orchestrator", "--region", "eu-central-1");
      expect(started).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(`${other} is active`) });
      // It uses the same program, which the installation of the first one replaces.
      await shell("echo >>/etc/systemd/system/blacktree-orchestrator@.service");
      const { stdout } = await install("orchestrator");
      expect(stdout).toContain(`Also: systemctl restart ${other}`);
    });

    test("a worker beside it has another account, which reads its key", async () => {
      const dir = join(machine.root, "root/tls");
      await run(["mkdir", dir]);
      const { caPath, client } = await makeCertificates(dir);
      const files = { "ca.pem": caPath, "worker.pem": client.certPath, "worker.key": client.keyPath };
      for (const [name, path] of Object.entries(files)) await run(["cp", path, join(dir, name)]);

      const { exitCode, stdout } = await install(...WORKER, "--no-start", "--tls-dir", "/root/tls");
      expect({ exitCode, stdout }).toEqual({
        exitCode: 0,
        stdout: expect.stringContaining("was not started"),
      });
      expect(await modeOf("/etc/blacktree/worker-eu-west-1.env")).toBe("640 root:blacktree-worker");
      expect(await modeOf("/etc/blacktree/tls/worker.key")).toBe("640 root:blacktree-worker");
      expect(await shell("id -Gn blacktree-worker")).toBe("blacktree-worker");
      expect(await shell("systemctl is-enabled blacktree-worker@eu-west-1")).toBe("enabled");
      expect(await shell("systemctl is-active blacktree-worker@eu-west-1 || true")).toBe("inactive");
      // The account reads all of them, and the settings are complete.
      const { stdout: effective } = await machine.run([
        ...["systemd-run", "--quiet", "--wait", "--pipe", "--property=User=blacktree-worker"],
        ...["--property=EnvironmentFile=/etc/blacktree/worker-eu-west-1.env"],
        ...[
          "--setenv=BLACKTREE_WORKER_REGION=eu-west-1",
          "/usr/local/bin/blacktree-worker",
          "--check-config",
        ],
      ]);
      expect(effective).toContain("BLACKTREE_TLS_KEY=/etc/blacktree/tls/worker.key\n");
    });

    test("values with special characters reach the service as they were given", async () => {
      const url = "amqp://user:a$b\"c\\d`e'f%20#g@localhost/vhost";
      const standIns = await makeRelease();
      const dir = join(machine.root, "root/settings");
      const command = ["sh", standIns.script, "orchestrator", "--region", "eu-north-1", "--root", dir];
      await run(command, { env: { RABBITMQ_URL: url } });
      const { stdout } = await machine.run([
        ...["systemd-run", "--quiet", "--wait", "--pipe"],
        ...["--property=EnvironmentFile=/root/settings/etc/blacktree/orchestrator-eu-north-1.env"],
        ...["printenv", "RABBITMQ_URL", "BLACKTREE_REGION"],
      ]);
      expect(stdout).toBe(`${url}\neu-north-1\n`);
      // The same value again is not another one.
      const again = await run(command, { env: { RABBITMQ_URL: url } });
      expect(again.stderr).toBe("");
      await standIns.remove();
    });

    test("--uninstall of one role leaves the other, and --purge leaves nothing", async () => {
      const removed = await install("worker", "--uninstall");
      expect(removed).toMatchObject({ exitCode: 0, stderr: "" });
      expect(await shell("ls /usr/local/bin")).toBe("blacktree\nblacktree-orchestrator");
      expect(await shell("ls /etc/blacktree")).toContain("worker-eu-west-1.env");
      expect(await shell(`systemctl is-active ${SERVICE}`)).toBe("active");

      const purged = await install("--uninstall", "--purge");
      expect(purged).toMatchObject({ exitCode: 0, stderr: "" });
      expect(await present()).toBe("");
      expect(await shell("ls /etc/systemd/system/*.wants | grep blacktree || true")).toBe("");
      expect((await install("--uninstall", "--purge")).exitCode).toBe(0);
    });
  });

  inFullCheck().test("--with-deps installs what is missing with apt", async () => {
    await shell("apt-get -qq remove --yes git git-man >&2");
    const { exitCode, stdout, stderr } = await install(...WORKER, "--no-start", "--with-deps");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stdout).toContain("installing with apt: git\n");
    expect(await shell("git --version")).toStartWith("git version");
  });
});

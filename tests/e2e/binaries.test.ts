import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { flagOf } from "../../src/shared/settings/settings.ts";
import { type Binaries, compiledBinaries } from "../support/blacktree/binaries.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { writeFiles } from "../support/machine/write-files.ts";
import { startHttpProxy } from "../support/servers/http-proxy.ts";

// The first file that needs the binaries compiles them.
setDefaultTimeout(400_000);

let binaries: Binaries;
let folder: TempDir;

beforeAll(async () => {
  [binaries, folder] = await Promise.all([compiledBinaries(), makeTempDir("binaries")]);
});
afterAll(() => folder.remove());

interface Finished {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** With this environment and none of the test's own variables. */
async function runIn(
  cwd: string,
  command: readonly string[],
  environment: Record<string, string> = {},
): Promise<Finished> {
  const child = Bun.spawn([...command], {
    cwd,
    env: { PATH: "/usr/bin:/bin", HOME: cwd, ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

interface Program {
  readonly name: "blacktree-orchestrator" | "blacktree-worker" | "blacktree";
  readonly path: keyof Omit<Binaries, "dir">;
  /** Arguments that must precede the flags of its settings. */
  readonly command: readonly string[];
  /** The minimum settings for a start. */
  readonly settings: Record<string, string>;
  readonly wrongFlags: readonly string[];
  readonly wrongNames: readonly string[];
  readonly secrets: Record<string, string>;
}

const PROGRAMS: readonly Program[] = [
  {
    name: "blacktree-orchestrator",
    path: "orchestrator",
    command: [],
    settings: {
      RABBITMQ_URL: "amqp://localhost",
      REDIS_URL: "redis://localhost",
      BLACKTREE_ADMIN_TOKEN: "of-this-test",
    },
    wrongFlags: ["--ping-interval", "soon", "--admin-listen", "8080"],
    wrongNames: [
      "RABBITMQ_URL",
      "REDIS_URL",
      "BLACKTREE_PING_INTERVAL",
      "BLACKTREE_ADMIN_LISTEN",
      "BLACKTREE_ADMIN_TOKEN",
    ],
    secrets: {
      RABBITMQ_URL: "amqp://someone:hidden-a@localhost,amqps://someone:hidden-b@other",
      REDIS_URL: "rediss://:hidden-c@localhost",
      BLACKTREE_ADMIN_TOKEN: "hidden-d",
    },
  },
  {
    name: "blacktree-worker",
    path: "worker",
    command: [],
    settings: { BLACKTREE_ORCHESTRATOR_ADDR: "127.0.0.1:5051", BLACKTREE_WORKER_REGION: "eu-west-1" },
    wrongFlags: [
      "--orchestrator-addr",
      "nowhere",
      "--worker-slots",
      "0",
      "--drain-timeout",
      "10",
      "--build-cgroup",
      "/nowhere",
    ],
    wrongNames: [
      "BLACKTREE_BUILD_CGROUP",
      "BLACKTREE_ORCHESTRATOR_ADDR",
      "BLACKTREE_WORKER_REGION",
      "BLACKTREE_WORKER_SLOTS",
      "BLACKTREE_DRAIN_TIMEOUT",
    ],
    secrets: { BLACKTREE_REGISTRY_PASSWORD: "hidden-g" },
  },
  {
    name: "blacktree",
    path: "cli",
    command: ["up"],
    settings: {},
    wrongFlags: ["--worker-slots", "none", "--registry", "no registry", "--build-cgroup", "/nowhere"],
    wrongNames: ["BLACKTREE_BUILD_CGROUP", "BLACKTREE_WORKER_SLOTS", "BLACKTREE_REGISTRY"],
    secrets: { BLACKTREE_REGISTRY_PASSWORD: "hidden-e", BLACKTREE_ADMIN_TOKEN: "hidden-f" },
  },
];

describe.each(PROGRAMS)("$name", ({ name, path, command, settings, wrongFlags, wrongNames, secrets }) => {
  const start = (args: readonly string[], environment?: Record<string, string>, cwd = folder.path) =>
    runIn(cwd, [binaries[path], ...args], environment);

  test("--version names version, commit and Bun", async () => {
    const { exitCode, stdout } = await start(["--version"]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(commit ([0-9a-f]{40}|unknown), Bun ${Bun.version}\\)\n$`),
    );
  });

  test("--help names it and its settings", async () => {
    const { exitCode, stdout, stderr } = await start([...command, "--help"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toStartWith(`Usage: ${[name, ...command].join(" ")}`);
    expect(stdout).toContain("--check-config");
    expect(stdout).toContain("BLACKTREE_LOG_LEVEL");
  });

  test("an unknown flag is wrong usage", async () => {
    const { exitCode, stderr } = await start([...command, "--no-such-flag"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--no-such-flag");
  });

  test("all wrong settings are named at once", async () => {
    const { exitCode, stdout, stderr } = await start([...command, ...wrongFlags]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    const [title, ...problems] = stderr.trimEnd().split("\n");
    expect(title).toBe(`${name}: wrong settings`);
    expect(problems.map((line) => line.split(/[ :]/)[0]).sort()).toEqual([...wrongNames].sort());
    for (const problem of problems) expect(problem).toContain("; expected ");
  });

  test("--check-config shows the effective settings: flags, then environment, then defaults", async () => {
    const environment = {
      ...settings,
      BLACKTREE_LOG_LEVEL: "warn",
      BLACKTREE_GIT_BASE_URL: "https://env.example",
    };
    const { exitCode, stdout } = await start(
      [...command, "--check-config", "--log-level", "debug"],
      environment,
    );
    expect(exitCode).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toContain("BLACKTREE_LOG_LEVEL=debug");
    expect(lines).toContain("BLACKTREE_GIT_BASE_URL=https://env.example");
    expect(lines).toContain("BLACKTREE_RESULT_LOG_LINES=500");
  });

  test("--check-config and errors show no secret", async () => {
    const environment = { ...settings, ...secrets };
    const shown = await start([...command, "--check-config"], environment);
    expect(shown.exitCode).toBe(0);
    for (const [setting] of Object.entries(secrets))
      expect(shown.stdout).toMatch(new RegExp(`^${setting}=.*\\*\\*\\*`, "m"));
    const refused = await start([...command, "--log-level", "loud"], environment);
    expect(refused.exitCode).toBe(2);
    expect(`${shown.stdout}${shown.stderr}${refused.stdout}${refused.stderr}`).not.toContain("hidden");
  });

  test.each(Object.entries(secrets))(
    "%s has no flag, and the error does not show its value",
    async (setting, value) => {
      const flag = flagOf(setting);
      for (const args of [[flag, value], [`${flag}=${value}`]]) {
        const { exitCode, stdout, stderr } = await start([...command, "--check-config", ...args], settings);
        expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
        expect(stderr).toContain(`${flag} is not a flag`);
        expect(stderr).toContain(`set ${setting} in the environment`);
        expect(stderr).not.toContain("hidden");
      }
      const { stdout: help } = await start([...command, "--help"]);
      expect(help).toMatch(new RegExp(`^ {2}${setting}: `, "m"));
      expect(help).not.toMatch(new RegExp(`${flag}[ =]`));
    },
  );

  test("a mistyped flag is named without its value", async () => {
    const { exitCode, stderr } = await start([...command, "--pasword=hidden='x'\n'y'"], settings);
    expect(exitCode).toBe(2);
    expect(stderr).toStartWith("error: unknown option '--pasword=…'\n");
    expect(stderr).not.toContain("hidden");
    expect(stderr).not.toContain("y'");
  });

  const urls = Object.keys(settings).filter((setting) => setting.endsWith("_URL"));
  if (urls.length > 0) {
    test.each(["/", "?", "#", ",", " ", "%", "%zz"])(
      "a password with %p in a URL is refused, and not shown",
      async (character) => {
        const password = `hidden${character}part`;
        const given = urls.map((setting) => [
          setting,
          `${settings[setting]?.replace("//", `//user:${password}@`)}`,
        ]);
        const { exitCode, stdout, stderr } = await start(command, Object.fromEntries(given));
        expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
        for (const setting of urls) expect(stderr).toMatch(new RegExp(`^${setting} = .*write % as %25`, "m"));
        for (const part of ["hidden", "part"]) expect(stderr).not.toContain(part);
      },
    );
  }

  describe("in a folder with .env and bunfig.toml", () => {
    let hostile: TempDir;
    const hasRun = () => Bun.file(join(hostile.path, "ran")).exists();

    beforeAll(async () => {
      hostile = await makeTempDir("hostile");
      const env = [
        ...Object.entries(settings).map(([setting, value]) => `${setting}=${value}`),
        "BLACKTREE_LOG_LEVEL=error",
        "BLACKTREE_RESULT_LOG_LINES=7",
      ].join("\n");
      await writeFiles(hostile.path, {
        ".env": env,
        ".env.local": env,
        ".env.production": env,
        "bunfig.toml": 'preload = ["./evil.ts"]\n',
        "evil.ts": `await Bun.write(${JSON.stringify(join(hostile.path, "ran"))}, "");\n`,
      });
    });
    afterAll(() => hostile.remove());

    test("neither .env nor bunfig.toml is read", async () => {
      const { exitCode, stdout } = await start([...command, "--check-config"], settings, hostile.path);
      expect(exitCode).toBe(0);
      expect(stdout).toContain("BLACKTREE_LOG_LEVEL=info\n");
      expect(stdout).toContain("BLACKTREE_RESULT_LOG_LINES=500\n");
      expect(await hasRun()).toBe(false);
    });

    const required = Object.keys(settings);
    if (required.length > 0) {
      test("required settings are not read from there", async () => {
        const { exitCode, stderr } = await start([...command, "--check-config"], {}, hostile.path);
        expect(exitCode).toBe(2);
        for (const setting of required) expect(stderr).toContain(`${setting}: is not set`);
      });
    }

    test("Bun itself would read them", async () => {
      const script = "process.stdout.write(process.env.BLACKTREE_LOG_LEVEL ?? '')";
      await Bun.write(join(hostile.path, "script.ts"), script);
      const { stdout } = await runIn(hostile.path, [process.execPath, "script.ts"]);
      expect(stdout).toBe("error");
      expect(await hasRun()).toBe(true);
      await Bun.file(join(hostile.path, "ran")).delete();
    });
  });
});

const SERVICES = PROGRAMS.filter(({ command }) => command.length === 0);
describe.each(SERVICES)("$name --check-config --env-file", ({ name, path, settings }) => {
  const role = name.replace("blacktree-", "");
  const isWorker = role === "worker";
  const regionSetting = isWorker ? "BLACKTREE_WORKER_REGION" : "BLACKTREE_REGION";
  const check = (file: string, environment: Record<string, string> = {}) =>
    runIn(folder.path, [binaries[path], "--check-config", "--env-file", file], environment);

  async function settingsFile(file: string, values: Record<string, string>): Promise<string> {
    const lines = Object.entries(values).map(([setting, value]) => `${setting}="${value}" \n`);
    await writeFiles(folder.path, { [file]: `# Settings\n${lines.join("")}` });
    return join(folder.path, file);
  }

  test("shows the settings of the service of a region: the unit's, then the file's, and none of the shell's", async () => {
    const { [regionSetting]: _, ...given } = settings;
    const file = await settingsFile(`${role}-eu-central-1.env`, given);
    const { exitCode, stdout, stderr } = await check(file, { BLACKTREE_LOG_LEVEL: "debug" });
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    for (const [setting, value] of Object.entries(given))
      expect(lines).toContain(`${setting}=${setting === "BLACKTREE_ADMIN_TOKEN" ? "***" : value}`);
    expect(lines).toContain(`${regionSetting}=eu-central-1`);
    expect(lines).toContain("BLACKTREE_LOG_LEVEL=info");
    if (isWorker) expect(lines).toContain("BLACKTREE_WORK_DIR=/var/lib/blacktree/worker-eu-central-1");
  });

  test("the file's value of a setting takes precedence over the unit's", async () => {
    const file = await settingsFile(`${role}-eu-north-1.env`, { ...settings, [regionSetting]: "eu-west-3" });
    expect((await check(file)).stdout).toContain(`${regionSetting}=eu-west-3\n`);
  });

  test("names all wrong settings of the file", async () => {
    const file = await settingsFile(`${role}.env`, { BLACKTREE_LOG_LEVEL: "loud" });
    const { exitCode, stderr } = await check(file, settings);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('BLACKTREE_LOG_LEVEL = "loud"');
    for (const setting of Object.keys(settings)) expect(stderr).toContain(`${setting}: is not set`);
  });

  test("a file that cannot be read, and a start with a file, are wrong usage", async () => {
    const absent = await check("/nowhere/x.env", settings);
    expect(absent).toMatchObject({ exitCode: 2, stdout: "" });
    expect(absent.stderr).toBe(`${name}: --env-file /nowhere/x.env: cannot be read (ENOENT)\n`);
    const started = await runIn(folder.path, [binaries[path], "--env-file", "/nowhere/x.env"], settings);
    expect(started).toMatchObject({ exitCode: 2, stderr: `${name}: --env-file requires --check-config\n` });
  });
});

describe("commands that call the API show no secret of a wrong call", () => {
  test.each([
    ["job", "--admin-token", "BLACKTREE_ADMIN_TOKEN"],
    ["submit", "--git-token", "BLACKTREE_GIT_TOKEN"],
  ])("%s: %s is not a flag", async (command, flag, setting) => {
    const { exitCode, stderr } = await runIn(folder.path, [binaries.cli, command, `${flag}=hidden`]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`${flag} is not a flag`);
    expect(stderr).toContain(`set ${setting} in the environment`);
    expect(stderr).not.toContain("hidden");
  });

  test.each(["http://user:hidden@127.0.0.1:1", "ftp://user:hidden@127.0.0.1:1"])("--api %s", async (url) => {
    const { exitCode, stderr } = await runIn(folder.path, [binaries.cli, "job", "--api", url, "some-id"]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("//user:***@127.0.0.1:1");
    expect(stderr).not.toContain("hidden");
  });

  test("the token is not sent to a proxy for an API on this machine", async () => {
    const proxy = await startHttpProxy();
    const tokens: (string | null)[] = [];
    const api = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch({ headers }) {
        tokens.push(headers.get("authorization"));
        return new Response(null, { status: 404 });
      },
    });
    const environment = {
      BLACKTREE_ADMIN_TOKEN: "hidden-token",
      HTTP_PROXY: proxy.url,
      all_proxy: proxy.url,
    };
    try {
      const url = `http://127.0.0.1:${api.port}`;
      await runIn(folder.path, [binaries.cli, "job", "--api", url, "some-id"], environment);
      expect(new Set(tokens)).toEqual(new Set(["Bearer hidden-token"]));
      expect([...proxy.requests, ...proxy.refused]).toEqual([]);
    } finally {
      api.stop(true);
      await proxy.stop();
    }
  });
});

/** The release that install.sh installs from: over HTTP with faults, from a folder, changed or incomplete. */
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { existsSync } from "node:fs";
import { appendFile, cp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { linkPrograms, writeProgram } from "../../support/installation/commands.ts";
import { makeRelease, type TestRelease, thisPlatform } from "../../support/installation/release.ts";
import { type ReleaseServer, serveRelease } from "../../support/installation/release-server.ts";
import { makeCertificates } from "../../support/machine/certificates.ts";
import { freePort } from "../../support/machine/free-port.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { type FinishedProcess, run } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

// The first file that needs the binaries compiles them.
setDefaultTimeout(400_000);

const WORKER = ["worker", "--region", "eu-west-1"];
const PROGRAM = `${thisPlatform}/blacktree-worker`;

let server: ReleaseServer;
let pristine: TestRelease;
/** A copy of the release for one test, served at `server.url`, which is the address in its install.sh. */
let served: TempDir;
let folder: TempDir;
let root: string;
/** The pauses before repetitions, in the order in which the script waited. */
let pauses: () => Promise<string[]>;
let path: string;
let programs: TempDir;

/** A folder for PATH, with links to all of the system's programs but these. */
async function programsWithout(...names: string[]): Promise<string> {
  const dir = join(programs.path, names.join("-"));
  return existsSync(dir) ? dir : linkPrograms(dir, names);
}

beforeAll(async () => {
  programs = await makeTempDir("programs");
  server = await serveRelease(() => served.path);
  pristine = await makeRelease({ baseUrl: `${server.url}/` });
});
afterAll(() => Promise.all([server.close(), pristine.remove(), programs.remove()]));

beforeEach(async () => {
  [served, folder] = await Promise.all([makeTempDir("served"), makeTempDir("download")]);
  await cp(pristine.dir, served.path, { recursive: true });
  root = join(folder.path, "root");
  const log = join(folder.path, "pauses");
  await writeProgram(join(folder.path, "bin"), "sleep", `echo "$1" >>'${log}'`);
  path = `${join(folder.path, "bin")}:${process.env.PATH}`;
  pauses = async () =>
    (await Bun.file(log).exists()) ? (await Bun.file(log).text()).trimEnd().split("\n") : [];
});
afterEach(() => {
  server.clearFaults();
  return Promise.all([served.remove(), folder.remove()]);
});

/** As `curl -fsSL <base>/install.sh | sh -s -- …`. */
async function pipe(args: readonly string[], env: Record<string, string> = {}): Promise<FinishedProcess> {
  const stdin = await (await fetch(`${server.url}/install.sh`)).bytes();
  return run(["sh", "-s", "--", ...args, "--root", root], {
    stdin,
    env: { PATH: path, ...env },
    cwd: folder.path,
    mayFail: true,
  });
}

const installedPrograms = () => readdir(join(root, "usr/local/bin")).catch(() => []);

async function expectRefusal(finished: FinishedProcess, errorText: string | RegExp): Promise<void> {
  expect(finished.exitCode).toBe(1);
  expect(finished.stderr).toMatch(errorText);
  expect(await installedPrograms()).toEqual([]);
  // Nothing unfinished is left either.
  expect(await readdir(join(root, "usr/local")).catch(() => [])).toEqual([]);
}

for (const downloader of ["curl", "wget"])
  inFullCheck(downloader !== "curl").describe(`with ${downloader}`, () => {
    beforeEach(async () => {
      const others = ["curl", "wget"].filter((name) => name !== downloader);
      path = `${join(folder.path, "bin")}:${await programsWithout(...others)}`;
    });

    test("the release is downloaded from the address in the script", async () => {
      const { exitCode, stderr } = await pipe(WORKER);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(await installedPrograms()).toEqual(["blacktree", "blacktree-worker"]);
      expect(await pauses()).toEqual([]);
    });

    test("an unavailable server and a cut connection are tried again, with growing pauses", async () => {
      server.addFaults("SHA256SUMS", 503);
      server.addFaults(PROGRAM, "cut", 429, "cut");
      const { exitCode, stdout } = await pipe(WORKER);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^retrying .*SHA256SUMS in 1 s: .*503/m);
      expect(await pauses()).toEqual(["1", "1", "2", "4"]);
      expect(await Bun.file(join(root, "usr/local/bin/blacktree-worker")).text()).toBe(
        await Bun.file(join(pristine.dir, PROGRAM)).text(),
      );
    });

    test("a server that stays unavailable is named after five attempts", async () => {
      server.addFaults("SHA256SUMS.sig", 503, 503, 503, 503, 503);
      await expectRefusal(
        await pipe(WORKER),
        /cannot download http.*SHA256SUMS\.sig: .*503.*; nothing was installed/,
      );
      expect(await pauses()).toHaveLength(4);
    });

    test("a missing file is not tried again", async () => {
      await rm(join(served.path, PROGRAM));
      await expectRefusal(await pipe(WORKER), /cannot download http.*blacktree-worker: .*404/);
      expect(await pauses()).toEqual([]);
    });

    test("a certificate that is not trusted is named, with the clock as a possible cause", async () => {
      const certificates = await makeCertificates(folder.path);
      const secure = await serveRelease(() => served.path, certificates.server);
      try {
        const finished = await pipe(WORKER, { BLACKTREE_BASE_URL: secure.url });
        await expectRefusal(
          finished,
          /certificate.*; check this machine's clock \(.*\), and whether .*ca-certificates/,
        );
        expect(await pauses()).toEqual([]);
      } finally {
        await secure.close();
      }
    });

    test("an address without a server is named", async () => {
      const url = `http://127.0.0.1:${await freePort()}`;
      await expectRefusal(
        await pipe(WORKER, { BLACKTREE_BASE_URL: url }),
        `cannot download ${url}/SHA256SUMS: `,
      );
    });
  });

test("without curl and wget, it names the package", async () => {
  path = await programsWithout("curl", "wget");
  await expectRefusal(await pipe(WORKER), "curl or GNU wget: downloads the release");
});

test("files that are installed already are not downloaded again", async () => {
  await pipe(WORKER);
  const before = server.requests.length;
  const { exitCode, stdout } = await pipe(WORKER);
  expect(exitCode).toBe(0);
  expect(server.requests.slice(before)).toEqual(["install.sh", "SHA256SUMS", "SHA256SUMS.sig"]);
  expect(stdout).not.toMatch(/^installed .*(bin|systemd)/m);
});

test("BLACKTREE_BASE_URL names a mirror, and --from precedes it", async () => {
  const mirror = await serveRelease(() => pristine.dir);
  try {
    expect((await pipe(WORKER, { BLACKTREE_BASE_URL: `${mirror.url}/` })).exitCode).toBe(0);
    expect(mirror.requests).toContain(PROGRAM);
    const refused = await pipe([...WORKER, "--from", "/nowhere"], { BLACKTREE_BASE_URL: mirror.url });
    expect(refused).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("/nowhere is not a folder with a release"),
    });
  } finally {
    await mirror.close();
  }
});

describe("without network", () => {
  const offline = (script: string, ...args: string[]) =>
    run(["sh", script, ...WORKER, "--root", root, ...args], { cwd: folder.path, mayFail: true });

  test("install.sh installs from the folder that it is in", async () => {
    const requests = server.requests.length;
    expect((await offline(join(served.path, "install.sh"))).exitCode).toBe(0);
    expect(await installedPrograms()).toEqual(["blacktree", "blacktree-worker"]);
    expect(server.requests).toHaveLength(requests);
  });

  test("--from names the folder", async () => {
    const script = join(folder.path, "elsewhere.sh");
    await rename(join(served.path, "install.sh"), script);
    expect((await offline(script, "--from", served.path)).exitCode).toBe(0);
    expect(await installedPrograms()).toEqual(["blacktree", "blacktree-worker"]);
  });

  test("the script of a checkout is not part of a release", async () => {
    const script = join(import.meta.dir, "../../../install.sh");
    const noRelease = await offline(script);
    expect(noRelease).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("is not part of a release"),
    });
    await expectRefusal(await offline(script, "--from", served.path), "has no public key");
  });
});

describe("a release that was changed", () => {
  const changes: [string, (dir: string) => Promise<unknown>, RegExp][] = [
    [
      "a program",
      (dir) => appendFile(join(dir, PROGRAM), "#"),
      /blacktree-worker is damaged: its SHA-256 is [0-9a-f]{64}, and the release's list has [0-9a-f]{64}; nothing/,
    ],
    [
      "a unit",
      (dir) => appendFile(join(dir, "systemd/blacktree-worker@.service"), "#"),
      /blacktree-worker@\.service is damaged/,
    ],
    [
      "the list",
      (dir) => appendFile(join(dir, "SHA256SUMS"), `${"0".repeat(64)}  docs/more.md\n`),
      /signature of .* is wrong/,
    ],
    [
      "the signature",
      (dir) => Bun.write(join(dir, "SHA256SUMS.sig"), "0".repeat(64)),
      /signature of .* is wrong/,
    ],
    [
      "the key of the signature",
      async (dir) => {
        const other = await makeRelease();
        for (const name of ["SHA256SUMS", "SHA256SUMS.sig"]) await cp(join(other.dir, name), join(dir, name));
        await other.remove();
      },
      /signature of .* is wrong/,
    ],
  ];

  test.each(changes)("%s: nothing is installed", async (_, change, errorText) => {
    await change(served.path);
    await expectRefusal(await pipe(WORKER), errorText);
  });

  test("bytes that change on the way: nothing is installed", async () => {
    server.addFaults(PROGRAM, "damaged");
    await expectRefusal(await pipe(WORKER), "blacktree-worker is damaged");
  });

  test("files that the list does not contain are not installed", async () => {
    await Bun.write(join(served.path, "systemd/blacktree-worker-extra.service"), "[Service]\n");
    await Bun.write(join(served.path, "docs/extra.md"), "# Extra\n");
    expect((await pipe(WORKER)).exitCode).toBe(0);
    const files = (await readdir(root, { recursive: true })).filter((name) => name.includes("extra"));
    expect(files).toEqual([]);
  });

  test("--skip-signature verifies checksums only, and says so", async () => {
    await Bun.write(join(served.path, "SHA256SUMS.sig"), "0".repeat(64));
    const { exitCode, stderr } = await pipe([...WORKER, "--skip-signature"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: expect.stringContaining("is not verified") });
    await rm(root, { recursive: true });
    await appendFile(join(served.path, PROGRAM), "#");
    await expectRefusal(await pipe([...WORKER, "--skip-signature"]), "is damaged");
  });
});

describe("without a program that verifies Ed25519", () => {
  test("without OpenSSL it stops, and names the package and the option", async () => {
    path = await programsWithout("openssl");
    await expectRefusal(
      await pipe(WORKER),
      /OpenSSL 3\.0 or newer: verifies .*--skip-signature.*\n(.*\n)*.*nothing was installed/,
    );
    expect((await pipe([...WORKER, "--skip-signature"])).exitCode).toBe(0);
  });

  test("with LibreSSL it stops, and names its version", async () => {
    // LibreSSL prints the usage of pkeyutl, which has no -rawin.
    await writeProgram(
      join(folder.path, "bin"),
      "openssl",
      'case $1 in version) echo "LibreSSL 3.8.2" ;; *) echo "usage: pkeyutl [-verify]" >&2; exit 1 ;; esac',
    );
    await expectRefusal(await pipe(WORKER), "this is LibreSSL 3.8.2");
  });
});

test("a program that does not start here is named, and nothing is installed", async () => {
  const failing = await makeRelease({
    files: { [PROGRAM]: "#!/bin/sh\necho 'libstdc++.so.6: cannot open shared object file' >&2\nexit 127\n" },
  });
  try {
    const finished = await run(["sh", failing.script, ...WORKER, "--root", root], { mayFail: true });
    await expectRefusal(
      finished,
      /blacktree-worker does not start on this machine: libstdc.*; nothing was installed/,
    );
  } finally {
    await failing.remove();
  }
});

test("a clock that is before the release is named", async () => {
  const inTheFuture = await makeRelease({ committedAtSeconds: Math.ceil(Date.now() / 1000) + 86_400 });
  try {
    const finished = await run(["sh", inTheFuture.script, ...WORKER, "--root", root], { mayFail: true });
    await expectRefusal(finished, /the clock of this machine is wrong: it shows .*; set it \(timedatectl/);
  } finally {
    await inTheFuture.remove();
  }
});

test("the compiled programs run after the installation", async () => {
  const compiled = await makeRelease({ programs: "compiled" });
  try {
    await run(["sh", compiled.script, ...WORKER, "--root", root]);
    const { stdout } = await run([join(root, "usr/local/bin/blacktree-worker"), "--version"]);
    expect(stdout).toStartWith("blacktree-worker ");
  } finally {
    await compiled.remove();
  }
});

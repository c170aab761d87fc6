/** The operator's commands as compiled, with a real build. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import { upSite } from "../support/blacktree/up-site.ts";
import { run } from "../support/machine/processes.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";

const site = upSite();

test("build arguments, secrets and labels of flags reach the build; its log is printed, and ends quietly in a closed pipe", async () => {
  const { Dockerfile = "", ...files } = await sampleRepository();
  const steps = `ARG GREETING
RUN --mount=type=secret,id=npm ["/bin/busybox", "sh", "-c", "echo got $GREETING and $(busybox wc -c </run/secrets/npm)"]`;
  await site.git.createRepository("owner/flags", { ...files, Dockerfile: `${Dockerfile}\n${steps}\n` });
  await Bun.write(join(site.folder, "token"), "12345");
  const job = ["--repo", "owner/flags", "--branch", "main", "--version", "v1", "--job-id", "flags-of-cli"];
  const { exitCode, stdout } = await site.up.cli(
    ...["submit", "--wait", ...job, "--account", "1234567890", "--ecr-repo", "app-images"],
    ...["--build-arg", "GREETING=hello", "--secret", `id=npm,src=${join(site.folder, "token")}`],
    ...["--label", "team=web", "--timeout", "5m", "--priority", "high"],
  );
  expect(stdout).toContain("got hello and 5");
  expect(exitCode).toBe(0);
  const { stdout: found } = await site.up.cli(
    "logs",
    "flags-of",
    "--grep",
    "HELLO AND 5",
    "-i",
    "--tail",
    "5",
  );
  expect(found).toMatch(/^#\d+ [\d.]+ got hello and 5\n$/);
  const shown = await site.up.cli("job", "flags-of-cli", "--json");
  expect(JSON.parse(shown.stdout)).toMatchObject({
    labels: { team: "web" },
    timeout_seconds: 300,
    priority: "high",
  });

  const { cli } = await compiledBinaries();
  const env = { BLACKTREE_API: site.up.apiUrl, BLACKTREE_WORK_DIR: site.up.workDir };
  const script = `${cli} logs flags-of-cli | head -1 >/dev/null; ${cli} __complete bash jobs --state QUE
    ${cli} completion bash | bash -n`;
  expect(await run(["bash", "-c", script], { env })).toEqual({ exitCode: 0, stdout: "QUEUED\n", stderr: "" });
});

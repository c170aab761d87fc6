/** Checks the shell scripts with shellcheck, in the language of their first lines: POSIX sh for install.sh. */
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const SCRIPTS = ["install.sh", ".ci/run"];

if (Bun.which("shellcheck") === null) {
  console.log("Shell scripts are not checked: shellcheck is not installed (apt-get install shellcheck).");
  process.exit(0);
}
const { exitCode } = Bun.spawnSync(["shellcheck", ...SCRIPTS], {
  cwd: ROOT,
  stdout: "inherit",
  stderr: "inherit",
});
if (exitCode === 0) console.log(`Checked ${SCRIPTS.length} shell scripts.`);
process.exit(exitCode);

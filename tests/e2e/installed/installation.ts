/** The steps of an administrator on a machine of these tests. */
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { TestRelease } from "../../support/installation/release.ts";
import type { BootedMachine } from "../../support/machine/booted-machine.ts";

export type Role = "orchestrator" | "worker";

export const REGION = "us-east-1";

const SETTINGS: Record<Role, string> = {
  orchestrator: "etc/blacktree/orchestrator.env",
  worker: `etc/blacktree/worker-${REGION}.env`,
};

/** For `bootMachine`: what `install` needs. */
export function installationBinds({ dir }: TestRelease): Record<string, string> {
  return { "/media/release": dir };
}

/** @param options besides the region. */
export async function install(machine: BootedMachine, role: Role, ...options: string[]): Promise<void> {
  if (role === "worker") options.push("--region", REGION);
  await machine.run(["sh", "/media/release/install.sh", role, ...options]);
}

export async function uninstall(machine: BootedMachine, role: Role): Promise<void> {
  await machine.run(["sh", "/media/release/install.sh", role, "--uninstall"]);
}

export async function addSettings(
  machine: BootedMachine,
  role: Role,
  settings: Record<string, string>,
): Promise<void> {
  await appendFile(join(machine.root, SETTINGS[role]), settingLines(settings));
}

/** A file of settings, for an instance of a unit. */
export async function writeSettings(
  machine: BootedMachine,
  name: string,
  settings: Record<string, string>,
): Promise<void> {
  await writeFile(join(machine.root, "etc/blacktree", name), settingLines(settings));
}

function settingLines(settings: Record<string, string>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

/** Changes options of a unit's section [Service]. */
export async function overrideUnit(
  machine: BootedMachine,
  unit: string,
  options: Record<string, string>,
): Promise<void> {
  const path = join(machine.root, "etc/systemd/system", `${unit}.d/override.conf`);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `[Service]\n${settingLines(options)}`);
  await machine.run(["systemctl", "daemon-reload"]);
}

/** A property of a unit, as `systemctl show` prints it. */
export async function unitProperty(machine: BootedMachine, unit: string, property: string): Promise<string> {
  return (
    await machine.run(["systemctl", "show", "--value", `--property=${property}`, unit])
  ).stdout.trimEnd();
}

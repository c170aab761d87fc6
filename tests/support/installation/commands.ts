/** Folders for PATH, in which programs are missing or replaced. */
import { chmod, mkdir, readdir, symlink } from "node:fs/promises";
import { join } from "node:path";

const SYSTEM_FOLDERS = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/** Fills `dir` with links to all of the system's programs except these. */
export async function linkPrograms(dir: string, except: readonly string[]): Promise<string> {
  await mkdir(dir, { recursive: true });
  const linked = new Set(except);
  for (const folder of SYSTEM_FOLDERS) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (linked.has(name)) continue;
      linked.add(name);
      await symlink(join(folder, name), join(dir, name));
    }
  }
  return dir;
}

/** Fills `dir` with stand-ins for all of the system's programs; each appends its name and arguments to `log`. */
export async function recordPrograms(dir: string, log: string): Promise<string> {
  const recorder = await writeProgram(dir, ".recorder", `echo "\${0##*/} $*" >>'${log}'`);
  const names = await Promise.all(SYSTEM_FOLDERS.map((folder) => readdir(folder).catch(() => [])));
  for (const name of new Set(names.flat())) await symlink(recorder, join(dir, name));
  return dir;
}

export async function writeProgram(dir: string, name: string, script: string): Promise<string> {
  const path = join(dir, name);
  await mkdir(dir, { recursive: true });
  await Bun.write(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

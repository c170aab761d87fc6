/**
 * The sockets on which the two sides of `blacktree up` call each other. On a TCP port of loopback every local user, and
 * the containers of some builds, could run builds and read the jobs' tokens.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MAX_SOCKET_PATH_BYTES, type SocketFile } from "../shared/rpc/address.ts";
import type { SettingProblem } from "../shared/settings/settings.ts";

export interface UpSockets {
  readonly orchestrator: SocketFile;
  readonly worker: SocketFile;
}

/** Creates an empty folder for the sockets: an earlier start that was killed has left its own there. */
export function makeSockets(workDir: string): UpSockets {
  const folder = socketsFolder(workDir);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { mode: 0o700 });
  return socketsIn(workDir);
}

export function checkSocketPaths({ workDir }: { readonly workDir?: string }): SettingProblem[] {
  if (workDir === undefined) return [];
  const longestBytes = Math.max(
    ...Object.values(socketsIn(workDir)).map(({ path }) => Buffer.byteLength(path)),
  );
  const excessBytes = longestBytes - MAX_SOCKET_PATH_BYTES;
  if (excessBytes <= 0) return [];
  return [
    {
      name: "BLACKTREE_WORK_DIR",
      value: workDir,
      wrong: "is too long for the paths of the sockets in this folder",
      expected: `a path that is at least ${excessBytes} bytes shorter`,
    },
  ];
}

function socketsFolder(workDir: string): string {
  return join(workDir, "sockets");
}

function socketsIn(workDir: string): UpSockets {
  const socket = (name: string) => ({ path: join(socketsFolder(workDir), name) });
  return { orchestrator: socket("orchestrator"), worker: socket("worker") };
}

import { readdir, readFile, readlink } from "node:fs/promises";

/** State of a listening socket in /proc/net/tcp (proc_pid_net(5)). */
const LISTEN = "0A";

/** The TCP ports on which a process listens, ascending. */
export async function listeningPorts(pid: number): Promise<number[]> {
  const sockets = new Set(await socketInodes(pid));
  const tables = await Promise.all(
    ["tcp", "tcp6"].map((table) => readFile(`/proc/${pid}/net/${table}`, "utf8")),
  );
  const rows = tables
    .flatMap((table) => table.trim().split("\n").slice(1))
    .map((row) => row.trim().split(/\s+/));
  const ports = rows.flatMap(([, local = "", , state, , , , , , inode = ""]) =>
    state === LISTEN && sockets.has(inode) ? [Number.parseInt(local.split(":")[1] ?? "", 16)] : [],
  );
  return ports.toSorted((one, other) => one - other);
}

async function socketInodes(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`;
  const links = await Promise.all(
    (await readdir(folder)).map((fd) => readlink(`${folder}/${fd}`).catch(() => "")),
  );
  return links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []);
}

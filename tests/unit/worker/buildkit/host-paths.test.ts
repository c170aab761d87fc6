import { expect, test } from "bun:test";
import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { hostPathRemover } from "../../../../src/worker/buildkit/host-paths.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";

test("paths of the run's folder and of BuildKit's mounts become paths in the repository", async () => {
  const dir = await makeTempDir("host-paths");
  try {
    await mkdir(join(dir.path, "real"));
    await symlink("real", join(dir.path, "given"));
    const path = join(dir.path, "given");
    const workspace = { path, checkout: join(path, "checkout"), dockerfileCopy: join(path, "linked") };
    const clean = await hostPathRemover(workspace);
    for (const folder of [path, join(dir.path, "real")]) {
      expect(clean(`open ${folder}/checkout/a/b: denied`)).toBe("open a/b: denied");
      expect(clean(`{"name":"${folder}/linked/Dockerfile"}`)).toBe('{"name":"Dockerfile"}');
      expect(clean(`lstat ${folder}/checkout: gone`)).toBe("lstat .: gone");
      expect(clean(`open ${folder}/other: gone`)).toBe("open …/other: gone");
    }
    expect(
      clean("failed to walk /var/lib/docker/tmp/buildkit-mount367/loop: lstat /x/buildkit-mount1/loop: gone"),
    ).toBe("failed to walk /loop: lstat /loop: gone");
    const engine = "/var/lib/docker";
    const cacheMount = `${engine}/buildkit/containerd-overlayfs/cachemounts/buildkit2152582434`;
    expect(clean(`mkdir ${cacheMount}/a: not a directory`)).toBe("mkdir /a: not a directory");
    const snapshotters = [
      `${engine}/containerd/daemon/io.containerd.snapshotter.v1.overlayfs`,
      "/var/lib/buildkit/runc-overlayfs/snapshots",
    ];
    for (const snapshotter of snapshotters)
      expect(clean(`Initialized empty Git repository in ${snapshotter}/snapshots/78/fs/`)).toBe(
        "Initialized empty Git repository in /",
      );
    expect(clean(`(source='${cacheMount}/a')`)).toBe("(source='/a')");
    expect(clean("#7 0.1 /usr/lib/x")).toBe("#7 0.1 /usr/lib/x");
  } finally {
    await dir.remove();
  }
});

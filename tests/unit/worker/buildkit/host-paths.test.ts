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
    expect(clean("#7 0.1 /usr/lib/x")).toBe("#7 0.1 /usr/lib/x");
  } finally {
    await dir.remove();
  }
});

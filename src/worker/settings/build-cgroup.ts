/** Checks BLACKTREE_BUILD_CGROUP at the start: a limit without effect would mislead. */
import { matching } from "../../shared/settings/parsers.ts";
import type { SettingProblem } from "../../shared/settings/settings.ts";
import { CGROUP_ROOT, controlGroup, describeLimits } from "../build-cgroup/control-group.ts";
import type { BuilderLocation } from "../buildkit/builders/location.ts";

/** No colon: BuildKit interprets `some.slice:name:` differently. No `..`: it would lead to another group. */
export const cgroupPath = matching(
  /^(\/[A-Za-z0-9_][A-Za-z0-9_.@-]*)+$/,
  "the path of a control group, such as /blacktreebuilds.slice: letters, digits, . _ @ - and /",
);

interface Given {
  readonly builder?: BuilderLocation;
  readonly buildCgroup?: string;
}

export function checkBuildCgroup(
  { builder, buildCgroup }: Given,
  dockerHost: string | undefined,
  root = CGROUP_ROOT,
): SettingProblem[] {
  if (buildCgroup === undefined) return [];
  const problem = (wrong: string, expected: string) => [
    { name: "BLACKTREE_BUILD_CGROUP", value: buildCgroup, wrong, expected },
  ];
  if (builder?.kind === "container") {
    const options = "BLACKTREE_BUILDER_OPTIONS=memory=8g,cpu-quota=150000";
    return problem(
      "does not limit a BuildKit in a container",
      `no value, and driver options instead, such as ${options}`,
    );
  }
  if (builder?.kind === "remote") {
    return problem(
      "does not limit a BuildKit at an address",
      "no value, and limits on that BuildKit's own service",
    );
  }
  if (dockerHost && !dockerHost.startsWith("unix://")) {
    return problem(
      `cannot be checked on the engine's host: ${dockerHost}`,
      "an engine on this host, or no value",
    );
  }
  const group = controlGroup(buildCgroup, root);
  if (!group.exists) return problem("does not exist on this host", `a control group below ${root}`);
  if (describeLimits(group.limits()) !== "") return [];
  return problem("has no limits", `${group.limitFiles} set in it`);
}

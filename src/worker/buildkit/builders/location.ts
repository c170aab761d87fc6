/** Whose BuildKit a worker builds with, as its settings say it. */
import type { Parser, SettingProblem } from "../../../shared/settings/settings.ts";
import { BadValue } from "../../../shared/settings/settings.ts";

export type BuilderLocation =
  | { readonly kind: "engine" }
  /** In a container that buildx starts on the engine. */
  | { readonly kind: "container" }
  /** One that somebody else runs. */
  | { readonly kind: "remote"; readonly address: string };

const ADDRESS = /^(unix:\/\/\/[^\s,]+|tcp:\/\/(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5})$/;

export const builderLocation: Parser<BuilderLocation> = (raw) => {
  if (raw === "engine" || raw === "container") return { kind: raw };
  if (ADDRESS.test(raw)) return { kind: "remote", address: raw };
  throw new BadValue(
    "names no BuildKit",
    "engine, container, or a BuildKit's address: unix:///run/buildkit/buildkitd.sock or tcp://host:port",
  );
};

/** The engine's own BuildKit is as the engine has it: an option that nobody reads would be a false promise. */
export function checkBuilderOptions(values: {
  readonly builder?: BuilderLocation;
  readonly builderOptions?: readonly string[];
}): SettingProblem[] {
  const { builder, builderOptions = [] } = values;
  if (builder?.kind !== "engine" || builderOptions.length === 0) return [];
  return [
    {
      name: "BLACKTREE_BUILDER_OPTIONS",
      value: builderOptions.join(","),
      wrong: "has options, and the engine's own BuildKit takes none",
      expected: "nothing, or another BLACKTREE_BUILDER",
    },
  ];
}

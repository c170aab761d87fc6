/** Which BuildKit a worker builds with, according to its settings. */
import type { Parser, SettingProblem } from "../../../shared/settings/settings.ts";
import { BadValue } from "../../../shared/settings/settings.ts";

export type BuilderLocation =
  | { readonly kind: "engine" }
  /** In a container that buildx starts on the engine. */
  | { readonly kind: "container" }
  /** A BuildKit that the operator runs. */
  | { readonly kind: "remote"; readonly address: string };

const ADDRESS = /^(unix:\/\/\/[^\s,]+|tcp:\/\/(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5})$/;

export const builderLocation: Parser<BuilderLocation> = (raw) => {
  if (raw === "engine" || raw === "container") return { kind: raw };
  if (ADDRESS.test(raw)) return { kind: "remote", address: raw };
  throw new BadValue(
    "is not a valid BuildKit location",
    "engine, container, or the address of a BuildKit: unix:///run/buildkit/buildkitd.sock or tcp://host:port",
  );
};

/** The engine's own BuildKit has the engine's configuration: an option that has no effect would mislead. */
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
      wrong: "has no effect: the engine's own BuildKit takes no options",
      expected: "no value, or another BLACKTREE_BUILDER",
    },
  ];
}

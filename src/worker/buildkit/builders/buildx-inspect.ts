/** Parses the output of `buildx inspect` for a builder with one node. */
import { canonicalPlatforms } from "../../../shared/platforms.ts";

export interface InspectedBuildKit {
  /** Such as "v0.29.0". */
  readonly version: string;
  /** The machine's own platform first, then those that it emulates or that are compatible. */
  readonly platforms: readonly string[];
}

/** @throws Error when the output reports an error or lists no platform. */
export function readInspection(lines: readonly string[]): InspectedBuildKit {
  const field = (name: string) =>
    lines
      .map((line) => new RegExp(`^${name}:\\s*(\\S.*)$`, "i").exec(line)?.[1])
      .find((value) => value !== undefined);
  const failure = field("Error");
  if (failure !== undefined) throw new Error(failure);
  // A star marks a platform that the user has set.
  const platforms = (field("Platforms") ?? "").split(/,\s*/).map((platform) => platform.replace(/\*$/, ""));
  const named = platforms.filter((platform) => platform !== "").flatMap((one) => canonicalPlatforms([one]));
  if (named.length === 0)
    throw new Error(
      `the engine offers no BuildKit, or it does not run: buildx inspect names no platform: ${lines.join(" ")}`,
    );
  return { version: field("BuildKit(?: version)?") ?? "of unknown version", platforms: [...new Set(named)] };
}

/** Version of this build. build.ts defines the values; without it they say that the program runs from source. */
declare const BLACKTREE_BUILD_VERSION: string;
declare const BLACKTREE_BUILD_COMMIT: string;

export const VERSION = typeof BLACKTREE_BUILD_VERSION === "string" ? BLACKTREE_BUILD_VERSION : "0.0.0-source";
export const COMMIT = typeof BLACKTREE_BUILD_COMMIT === "string" ? BLACKTREE_BUILD_COMMIT : "none";

export function describeVersion(program: string): string {
  return `${program} ${VERSION} (commit ${COMMIT}, Bun ${Bun.version})`;
}

/** What this build is. build.ts puts the three values in; run from source they say so. */
declare const BLACKTREE_BUILD_VERSION: string;
declare const BLACKTREE_BUILD_COMMIT: string;

export const VERSION = typeof BLACKTREE_BUILD_VERSION === "string" ? BLACKTREE_BUILD_VERSION : "0.0.0-source";
export const COMMIT = typeof BLACKTREE_BUILD_COMMIT === "string" ? BLACKTREE_BUILD_COMMIT : "none";

export function describeVersion(program: string): string {
  return `${program} ${VERSION} (commit ${COMMIT}, Bun ${Bun.version})`;
}

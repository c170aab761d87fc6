/**
 * Normalizes platforms as containerd does, and sorts them: two spellings of one platform must not count as two
 * platforms, nor lead to another image.
 */

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  aarch64: "arm64",
  i386: "386",
  armhf: "arm/v7",
  armel: "arm/v6",
};
const DEFAULT_VARIANTS: Readonly<Record<string, string>> = {
  "amd64/v1": "amd64",
  "arm64/v8": "arm64",
  "arm64/8": "arm64",
  arm: "arm/v7",
};

export function canonicalPlatforms(platforms: readonly string[]): string[] {
  return [...new Set(platforms.map(canonicalPlatform))].sort();
}

function canonicalPlatform(platform: string): string {
  const [os = "", architecture = "", variant] = platform.split("/");
  const named = ARCHITECTURES[architecture] ?? architecture;
  const machine = variant ? `${named.split("/")[0]}/${variant}` : named;
  return `${os}/${DEFAULT_VARIANTS[machine] ?? machine}`;
}

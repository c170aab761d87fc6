/** The content of an image in a registry, as lines that can be compared: its configuration, and each of its files. */
import { createHash } from "node:crypto";
import type { Manifest, Registry } from "../../support/servers/registry.ts";
import { readTar, type TarEntry } from "./tar.ts";

interface Platform {
  readonly os?: string;
  readonly architecture?: string;
  readonly variant?: string;
}

interface Configuration extends Platform {
  readonly config?: Readonly<Record<string, unknown>> & {
    readonly Labels?: Readonly<Record<string, string>>;
  };
}

const COMPARED_FIELDS = [
  ...[
    "Env",
    "Entrypoint",
    "Cmd",
    "User",
    "WorkingDir",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
  ],
  ...["OnBuild", "Shell"],
];

/** Blacktree adds these to every image, unless the job has them (docs/messages.md, `labels`). */
const ADDED_LABELS = /^(io\.blacktree\.|org\.opencontainers\.image\.(source|revision|version|created)$)/;

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
const KIND_NAMES: Readonly<Record<string, string>> = { "0": "file", "2": "link", "5": "folder" };
const HARD_LINK = "1";

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const nameOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);

function removeBelow(files: Map<string, TarEntry>, folder: string): void {
  for (const path of files.keys()) if (path.startsWith(`${folder}/`)) files.delete(path);
}

/** Puts a layer on top of those before it. */
function apply(files: Map<string, TarEntry>, layer: readonly TarEntry[]): void {
  for (const { path } of layer) {
    const folder = parentOf(path);
    const name = nameOf(path);
    if (name === OPAQUE) removeBelow(files, folder);
    else if (name.startsWith(WHITEOUT)) {
      const removed = [folder, name.slice(WHITEOUT.length)].filter((part) => part !== "").join("/");
      files.delete(removed);
      removeBelow(files, removed);
    }
  }
  for (const entry of layer) {
    if (nameOf(entry.path).startsWith(WHITEOUT)) continue;
    if (entry.type !== "5" && files.get(entry.path)?.type === "5") removeBelow(files, entry.path);
    const target = entry.linkTarget.replace(/^\.?\/+/, "");
    files.set(entry.path, entry.type === HARD_LINK ? (files.get(target) ?? entry) : entry);
  }
}

/** Control characters and bytes that are not ASCII, as `\x0a`. */
const shown = (text: string) =>
  text.replace(/[^\x20-\x7e]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);

function lineOf(path: string, entry: TarEntry): string {
  const { type, mode, uid, gid, linkTarget, attributes, content } = entry;
  const owner = uid === 0 && gid === 0 ? "" : ` ${uid}:${gid}`;
  const what = `${KIND_NAMES[type] ?? `type ${type}`} ${mode.toString(8)}${owner}`;
  const extra = Object.entries(attributes).map(([name, value]) => ` ${name}=${value}`);
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 16);
  const end = type === "2" ? ` -> ${linkTarget}` : type === "0" ? ` ${content.length} bytes ${hash}` : "";
  return shown(`/${path}: ${what}${end}${extra.join("")}`);
}

const GIT_FOLDER = /(^|\/)\.git(\/|$)/;

/**
 * Only the presence of a `.git` is compared: by design, that of a checkout has one commit, and that of a clone the whole
 * history (docs/building.md, Clone).
 */
function treeLines(files: ReadonlyMap<string, TarEntry>): string[] {
  const all = new Set<string>();
  for (const [path, entry] of files) {
    const git = GIT_FOLDER.exec(path);
    if (git) all.add(`/${shown(path.slice(0, git.index))}${git[1]}.git: present`);
    else all.add(lineOf(path, entry));
  }
  return [...all].sort();
}

function configLines({ config = {}, os, architecture, variant }: Configuration): string[] {
  const labels = Object.entries(config.Labels ?? {}).filter(([name]) => !ADDED_LABELS.test(name));
  return [
    `platform: ${[os, architecture, variant].filter(Boolean).join("/")}`,
    ...COMPARED_FIELDS.flatMap((name) =>
      name in config ? [`${name}: ${JSON.stringify(config[name])}`] : [],
    ),
    ...labels.map(([name, value]) => `label ${JSON.stringify(name)}: ${JSON.stringify(value)}`).sort(),
  ];
}

/** An image, wherever it is stored. */
export interface StoredImage {
  /** The JSON of the manifest or index with this digest; without a digest, of the image itself. */
  manifest(digest?: string): Promise<Manifest>;
  blob(digest: string): Promise<Uint8Array>;
}

export async function imageLines(image: StoredImage, digest?: string): Promise<string[]> {
  const { manifests, config, layers } = await image.manifest(digest);
  if (manifests) {
    const all = await Promise.all(manifests.map((each) => imageLines(image, each.digest)));
    return [`index of ${manifests.length} images`, ...all.flat()];
  }
  const files = new Map<string, TarEntry>();
  // Null for an image without layers.
  for (const layer of layers ?? []) apply(files, readTar(uncompressed(await image.blob(layer.digest))));
  const configuration = JSON.parse(Buffer.from(await image.blob(config?.digest ?? "")).toString());
  return [...configLines(configuration as Configuration), ...treeLines(files)];
}

function uncompressed(layer: Uint8Array): Uint8Array {
  const isGzip = layer[0] === 0x1f && layer[1] === 0x8b;
  return isGzip ? Bun.gunzipSync(new Uint8Array(layer)) : layer;
}

/** An image under a tag in a registry. */
export function imageInRegistry(registry: Registry, repository: string, tag: string): StoredImage {
  return {
    async manifest(digest) {
      const found = await registry.getManifest(repository, digest ?? tag);
      if (found === undefined) throw new Error(`${repository} has no image ${digest ?? tag}`);
      return found.json;
    },
    async blob(digest) {
      const response = await registry.fetch(`/v2/${repository}/blobs/${digest}`);
      if (!response.ok) throw new Error(`the registry answered ${response.status} for ${digest}`);
      return response.bytes();
    },
  };
}

/** The only image in an archive in OCI's layout. */
export function imageInArchive(archive: Uint8Array): StoredImage {
  const files = new Map(readTar(archive).map(({ path, content }) => [path, content]));
  const json = (path: string) => JSON.parse(Buffer.from(files.get(path) ?? []).toString()) as Manifest;
  const pathOf = (digest: string) => `blobs/${digest.replace(":", "/")}`;
  return {
    async manifest(digest) {
      const [root] = json("index.json").manifests ?? [];
      return json(pathOf(digest ?? `${root?.digest}`));
    },
    blob: async (digest) => files.get(pathOf(digest)) ?? new Uint8Array(),
  };
}

/**
 * Writes git objects byte by byte, since git's own commands refuse or change many trees that a server can serve. All
 * times are fixed: the same content has the same id in every run.
 */
import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";

export type ObjectFormat = "sha1" | "sha256";

/** A file of a commit. A path given as a text is written as UTF-8. */
export interface Entry {
  readonly path: string | Uint8Array;
  /** In octal, as git writes it. */
  readonly mode: string;
  /** The target of a link. For a submodule, whose mode is 160000, the id of its commit. Unused for an empty folder. */
  readonly content: string | Uint8Array;
  /** The content that a server of Git LFS has for the pointer in `content`. */
  readonly lfsContent?: Uint8Array;
}

export interface CommitParts {
  readonly parents?: readonly string[];
  readonly message?: string | Uint8Array;
  /** Header lines after those that every commit has. */
  readonly headers?: string;
  readonly seconds?: number;
}

const TYPE_NUMBERS = { commit: 1, tree: 2, blob: 3, tag: 4 } as const;
type ObjectType = keyof typeof TYPE_NUMBERS;

interface TreeItem {
  readonly mode: string;
  readonly name: Buffer;
  readonly id: string;
}

const SLASH = Buffer.from("/");
const TREE_MODE = "40000";
const EMPTY_FOLDER_MODE = TREE_MODE;
const GITLINK_MODE = "160000";
const AUTHOR = "Tests <tests@example.com>";
/** 2024-05-01, 12:00 UTC. */
const DEFAULT_SECONDS = 1_714_564_800;

const bytesOf = (content: string | Uint8Array) =>
  typeof content === "string" ? Buffer.from(content) : Buffer.from(content);

/** Git sorts a folder as if its name ended with a slash. */
const sortKey = ({ mode, name }: TreeItem) => (mode === TREE_MODE ? Buffer.concat([name, SLASH]) : name);

/** The objects of one repository. */
export class GitObjects {
  readonly #objects = new Map<string, { type: ObjectType; body: Buffer }>();

  constructor(readonly format: ObjectFormat = "sha1") {}

  blob(content: string | Uint8Array): string {
    return this.#add("blob", bytesOf(content));
  }

  /** A tree with these files, and with the folders that their paths name. */
  tree(entries: readonly Entry[]): string {
    const inFolders = new Map<string, Entry[]>();
    const items: TreeItem[] = [];
    for (const entry of entries) {
      const path = bytesOf(entry.path);
      const slash = path.indexOf(SLASH);
      if (slash < 0) items.push({ mode: entry.mode, name: path, id: this.#idOf(entry) });
      else {
        const folder = path.subarray(0, slash).toString("latin1");
        const below = { ...entry, path: path.subarray(slash + 1) };
        const belowFolder = inFolders.get(folder) ?? [];
        belowFolder.push(below);
        inFolders.set(folder, belowFolder);
      }
    }
    for (const [name, below] of inFolders)
      items.push({ mode: TREE_MODE, name: Buffer.from(name, "latin1"), id: this.tree(below) });
    return this.#treeOf(items);
  }

  commit(tree: string, parts: CommitParts = {}): string {
    const { parents = [], message = "A commit\n", headers = "", seconds = DEFAULT_SECONDS } = parts;
    const lines = [
      `tree ${tree}`,
      ...parents.map((parent) => `parent ${parent}`),
      `author ${AUTHOR} ${seconds} +0000`,
      `committer ${AUTHOR} ${seconds} +0000`,
    ];
    return this.#add(
      "commit",
      Buffer.concat([bytesOf(`${lines.join("\n")}\n${headers}\n`), bytesOf(message)]),
    );
  }

  /** An annotated tag of another object. */
  tag(name: string, target: string): string {
    const type = this.#objects.get(target)?.type;
    if (type === undefined) throw new Error(`object ${target} does not exist`);
    const lines = [`object ${target}`, `type ${type}`, `tag ${name}`];
    return this.#add(
      "tag",
      bytesOf(`${lines.join("\n")}\ntagger ${AUTHOR} ${DEFAULT_SECONDS} +0000\n\nA tag\n`),
    );
  }

  /** All objects, as git's documentation of the pack format describes. */
  pack(): Buffer {
    const header = Buffer.alloc(12);
    header.write("PACK");
    header.writeUInt32BE(2, 4);
    header.writeUInt32BE(this.#objects.size, 8);
    const parts: Uint8Array[] = [header];
    for (const { type, body } of this.#objects.values())
      parts.push(packedHeader(TYPE_NUMBERS[type], body.length), deflateSync(body, { level: 1 }));
    const content = Buffer.concat(parts);
    return Buffer.concat([content, createHash(this.format).update(content).digest()]);
  }

  #idOf({ mode, content }: Entry): string {
    if (mode === EMPTY_FOLDER_MODE) return this.#treeOf([]);
    return mode === GITLINK_MODE ? content.toString() : this.blob(content);
  }

  #treeOf(items: readonly TreeItem[]): string {
    const sorted = items.toSorted((one, other) => Buffer.compare(sortKey(one), sortKey(other)));
    const parts = sorted.flatMap(({ mode, name, id }) => [
      bytesOf(`${mode} `),
      name,
      Buffer.from([0]),
      Buffer.from(id, "hex"),
    ]);
    return this.#add("tree", Buffer.concat(parts));
  }

  #add(type: ObjectType, body: Buffer): string {
    const id = createHash(this.format).update(`${type} ${body.length}\0`).update(body).digest("hex");
    this.#objects.set(id, { type, body });
    return id;
  }
}

/** Type and size of a packed object: four bits of the size, then seven in each further byte. */
function packedHeader(type: number, size: number): Buffer {
  const bytes: number[] = [];
  let current = (type << 4) | (size & 15);
  let rest = Math.floor(size / 16);
  while (rest > 0) {
    bytes.push(current | 0x80);
    current = rest & 0x7f;
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...bytes, current]);
}

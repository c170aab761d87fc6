/**
 * The packs of a checkout's .git. In the end there is one, with exactly the objects of the checked out history. With one
 * commit, it is the same for the same commit, whatever the server has sent, so that a build's copy of it is cached.
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { History } from "./history.ts";

/**
 * Without deltas, a pack depends only on its objects (and on zlib). Level 1 takes a third less time than git's, and makes
 * the pack a tenth larger.
 */
const COMPARABLE = ["--window=0", "--threads=1", "--compression=1"];

export class Packs {
  readonly #folder: string;
  readonly #git: (args: readonly string[]) => Promise<readonly string[]>;
  /** Those of a cached checkout with one commit: their objects need not be compressed again. */
  #cached: readonly string[] = [];

  constructor(folder: string, git: (args: readonly string[]) => Promise<readonly string[]>) {
    this.#folder = folder;
    this.#git = git;
  }

  /** Call this before anything is fetched to a cached checkout with one commit. */
  async noteCached(): Promise<void> {
    const files = await readdir(this.#folder);
    this.#cached = files.flatMap((file) => /^(pack-[0-9a-f]+)\.pack$/.exec(file)?.[1] ?? []);
  }

  /** Removes no pack before `written`, the checkout, which reads from them. */
  async rewrite({ depth }: History, hasExtraObjects: boolean, written: Promise<unknown>): Promise<void> {
    const cached = this.#cached;
    if (!hasExtraObjects && (depth !== 1 || cached.length > 0)) return;
    // The deltas of a long history would be too expensive to compute.
    if (depth !== 1) await this.#keepOnly([await this.#pack()], written);
    else if (cached.length === 0)
      await this.#keepOnly([await this.#pack(...COMPARABLE, "--no-reuse-object")], written);
    else {
      for (const pack of cached) await Bun.write(join(this.#folder, `${pack}.keep`), "");
      const added = await this.#pack(...COMPARABLE, "--no-reuse-object", "--honor-pack-keep");
      await this.#keepOnly([...cached, added], written);
      await this.#keepOnly([await this.#pack(...COMPARABLE)], written);
    }
  }

  /** Returns the name of the new pack. */
  async #pack(...options: readonly string[]): Promise<string> {
    const base = join(this.#folder, "pack");
    const [hash = ""] = await this.#git(["pack-objects", "--all", "--quiet", ...options, base]);
    return `pack-${hash}`;
  }

  async #keepOnly(packs: readonly string[], written: Promise<unknown>): Promise<void> {
    await written;
    for (const file of await readdir(this.#folder))
      if (!packs.some((pack) => file.startsWith(`${pack}.`)) || file.endsWith(".keep"))
        await rm(join(this.#folder, file));
  }
}

/** The part of Git LFS's protocol that a download uses, for the git server of the tests. */
export interface LfsStore {
  /** Stores the content, and returns the pointer that a commit has in its place. */
  add(content: Uint8Array): string;
  /** Removes the content of this pointer. */
  forget(pointer: string): void;
  /** The base URL of objects in the batch API's answers, before `/<oid>`; the server's own unless set. */
  objectsAt: string | undefined;
  /** Undefined when the request is not about LFS. */
  answer(request: Request, path: string, baseUrl: string): Promise<Response | undefined>;
}

interface Batch {
  readonly objects: readonly { readonly oid: string; readonly size: number }[];
}

export function createLfsStore(): LfsStore {
  const contents = new Map<string, Uint8Array>();

  async function batch(request: Request, repository: string, baseUrl: string): Promise<Response> {
    const { objects } = (await request.json()) as Batch;
    const at = store.objectsAt ?? `${baseUrl}/${repository}.git/info/lfs/objects`;
    return Response.json({
      objects: objects.map(({ oid, size }) => {
        if (!contents.has(oid)) return { oid, size, error: { code: 404, message: "no such object" } };
        return { oid, size, actions: { download: { href: `${at}/${oid}` } } };
      }),
    });
  }

  const store: LfsStore = {
    objectsAt: undefined,
    add(content) {
      const oid = new Bun.CryptoHasher("sha256").update(content).digest("hex");
      contents.set(oid, content);
      return `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${content.length}\n`;
    },
    forget(pointer) {
      contents.delete(/sha256:(\w+)/.exec(pointer)?.[1] ?? "");
    },
    async answer(request, path, baseUrl) {
      const [, repository = "", rest = ""] = /^\/(.+)\.git\/info\/lfs\/objects\/(\w+)$/.exec(path) ?? [];
      if (rest === "batch") return batch(request, repository, baseUrl);
      const content = contents.get(rest);
      return content && new Response(content);
    },
  };
  return store;
}

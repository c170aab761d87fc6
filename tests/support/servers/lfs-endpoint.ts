/** The part of Git LFS's protocol that a download uses, for the git server of the tests. */
export interface LfsStore {
  /** Stores the content, and returns the pointer that a commit has in its place. */
  add(content: Uint8Array): string;
  /** Removes the content of this pointer. */
  forget(pointer: string): void;
  /** The base URL of objects in the batch API's answers, before `/<oid>`; the server's own unless set. */
  objectsAt: string | undefined;
  /** Answers a request in the store's place, or changes the store's answer. */
  override: ((call: LfsCall) => Response | Promise<Response>) | undefined;
  /** Undefined when the request is not about LFS. */
  answer(request: Request, path: string, baseUrl: string): Promise<Response | undefined>;
}

export interface LfsCall {
  readonly request: Request;
  readonly baseUrl: string;
  /** Of the requested object; undefined for a request to the batch API. */
  readonly oid: string | undefined;
  /** Of a request to the batch API. */
  readonly objects: readonly RequestedObject[];
  /** The store's own answer. */
  answer(): Response;
}

export interface RequestedObject {
  readonly oid: string;
  readonly size: number;
}

/** An object in an answer of the batch API. */
export interface OfferedObject extends RequestedObject {
  readonly error?: { readonly code: number; readonly message: string };
  readonly actions?: { readonly download: { readonly href: string; [key: string]: unknown } };
}

export function createLfsStore(): LfsStore {
  const contents = new Map<string, Uint8Array>();

  function offer({ oid, size }: RequestedObject, at: string): OfferedObject {
    if (!contents.has(oid)) return { oid, size, error: { code: 404, message: "no such object" } };
    return { oid, size, actions: { download: { href: `${at}/${oid}` } } };
  }

  const store: LfsStore = {
    objectsAt: undefined,
    override: undefined,
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
      const content = contents.get(rest);
      if (rest !== "batch" && content === undefined) return undefined;
      const isBatch = rest === "batch";
      const { objects = [] } = isBatch ? ((await request.json()) as { objects: RequestedObject[] }) : {};
      const at = store.objectsAt ?? `${baseUrl}/${repository}.git/info/lfs/objects`;
      const answer = () =>
        content === undefined
          ? Response.json({ objects: objects.map((object) => offer(object, at)) })
          : ranged(content, request);
      const oid = isBatch ? undefined : rest;
      return store.override?.({ request, baseUrl, oid, objects, answer }) ?? answer();
    },
  };
  return store;
}

function ranged(content: Uint8Array, request: Request): Response {
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "") ?? [];
  if (from === undefined) return new Response(content);
  if (Number(from) >= content.length) return new Response(null, { status: 416 });
  const headers = { "Content-Range": `bytes ${from}-${content.length - 1}/${content.length}` };
  return new Response(content.subarray(Number(from)), { status: 206, headers });
}

/** Responses that are made while they are read. */
import { sleep } from "../../shared/abort.ts";

export type Chunks = AsyncGenerator<string | Uint8Array>;

/** Aborts when the client disconnects, also while its response is still being prepared. */
export function readerOf(request: Request): AbortController {
  const reader = new AbortController();
  const leave = () => reader.abort(new Error("the reader has disconnected"));
  if (request.signal.aborted) leave();
  else request.signal.addEventListener("abort", leave, { once: true });
  return reader;
}

/**
 * A response of `first` and the rest of `chunks`, each made when the client has read the ones before. `reader` is that of
 * the request: it aborts when the client disconnects. `onEnd` is called once, whatever ends the response. When `chunks`
 * throws, the connection is broken off, so that the client does not take the response for complete.
 *
 * A generator that has not begun runs no `finally` when it is ended: what `chunks` has open, it has opened itself, for
 * `first`.
 */
export function streamedResponse(
  chunks: Chunks,
  reader: AbortController,
  onEnd: () => void,
  first?: Awaited<ReturnType<Chunks["next"]>>,
): ReadableStream<Uint8Array> {
  let next = first;
  let isEnded = false;
  const end = () => {
    if (!isEnded) onEnd();
    isEnded = true;
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = next ?? (await chunks.next());
          next = undefined;
          if (!done) return controller.enqueue(typeof value === "string" ? Buffer.from(value) : value);
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        end();
      },
      async cancel() {
        reader.abort(new Error("the reader has disconnected"));
        end();
        await chunks.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** `items`, and undefined whenever no item has come for `silenceMs`. */
export async function* withSilences<Item>(
  items: AsyncGenerator<Item>,
  silenceMs: number,
): AsyncGenerator<Item | undefined> {
  try {
    for (let next = items.next(); ; ) {
      const stop = new AbortController();
      const silence = sleep(silenceMs, stop.signal).catch(() => undefined);
      const item = await Promise.race([next, silence]).finally(() => stop.abort());
      if (item?.done) return;
      yield item?.value;
      if (item) next = items.next();
    }
  } finally {
    await items.return(undefined);
  }
}

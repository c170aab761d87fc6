/** Responses that are made while they are read. */

/**
 * `make` gets a signal that aborts when the client disconnects; `onEnd` is called once, whatever ends the response. Each
 * chunk is made when the client has read the ones before. When `make` throws, the connection is broken off, so that the
 * client does not take the response for complete.
 */
export function streamedResponse(
  make: (signal: AbortSignal) => AsyncGenerator<string | Uint8Array>,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  const disconnected = new AbortController();
  const chunks = make(disconnected.signal);
  let isEnded = false;
  const end = () => {
    if (!isEnded) onEnd();
    isEnded = true;
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await chunks.next();
          if (!done) return controller.enqueue(typeof value === "string" ? Buffer.from(value) : value);
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        end();
      },
      async cancel() {
        disconnected.abort(new Error("the reader has disconnected"));
        end();
        await chunks.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** The limit of one getRandomValues call. */
const CHUNK_BYTES = 65_536;

/** Bytes that cannot be compressed. */
export function noise(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(at + CHUNK_BYTES, sizeBytes)));
  }
  return bytes;
}

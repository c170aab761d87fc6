/** BuildKit repeats the whole script of a RUN step in its name and error, and a gRPC message has at most 4 MB. */
export const MAX_MESSAGE_CHARS = 16_384;

/** Keeps the beginning and the end, which say most, and states between them how much is missing. */
export function shortened(text: string, maxChars: number): string {
  if (text.length <= maxChars) return text;
  const half = Math.floor(maxChars / 2);
  const missing = text.length - 2 * half;
  return `${text.slice(0, half)}… (${missing} more characters) …${text.slice(-half)}`.toWellFormed();
}

/** Keeps the beginning and the end, where a message says most, and tells in between how much is missing. */
export function shortened(text: string, longestChars: number): string {
  if (text.length <= longestChars) return text;
  const half = Math.floor(longestChars / 2);
  const missing = text.length - 2 * half;
  return `${text.slice(0, half)}… (${missing} more characters) …${text.slice(-half)}`.toWellFormed();
}

/** Which queues `reply_to` may name: the sender of a job chooses it, and Blacktree then writes into that queue. */

/** Names of queues, in which `*` stands for any characters. */
export type ReplyPatterns = readonly string[];

export const ALL_QUEUES: ReplyPatterns = ["*"];
export function mayReplyTo(patterns: ReplyPatterns, queue: string): boolean {
  return patterns.some((pattern) => matches(pattern.split("*"), queue));
}

/** Without a regular expression, whose time could grow with a power of the name's length. */
function matches([start = "", ...parts]: readonly string[], queue: string): boolean {
  if (!queue.startsWith(start)) return false;
  const end = parts.pop();
  if (end === undefined) return queue === start;
  let from = start.length;
  for (const part of parts) {
    const at = queue.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return queue.length - end.length >= from && queue.endsWith(end);
}

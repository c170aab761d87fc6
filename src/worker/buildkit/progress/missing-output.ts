/** How a log shows that BuildKit has dropped output of a step. */

/**
 * Written by BuildKit itself: once a stream of a step exceeds `BUILDKIT_STEP_LOG_MAX_SIZE` or
 * `BUILDKIT_STEP_LOG_MAX_SPEED`, whose value it prints. Only the last 256 KiB follow.
 */
const CLIPPED_BY_BUILDKIT = /\[output clipped, log (limit|speed) .+ reached\]$/;

/** BuildKit's client stops reading a few seconds after the build's end, whatever is left. */
export const UNREAD_OUTPUT =
  "[output clipped: the build printed faster than it could be read, and BuildKit discarded the rest]";

/** A line of a step's output may say so, too. */
export function saysOutputIsMissing(line: string): boolean {
  return line.endsWith("]") && (CLIPPED_BY_BUILDKIT.test(line) || line === UNREAD_OUTPUT);
}

/** The message with which older versions of buildx fail when they have stopped reading. */
const STOPPED_READING = /^(ERROR: )?failed to receive status: .*code = Canceled\b/;

/** Only for a build that was not aborted. */
export function saysStoppedReading(error: string): boolean {
  return STOPPED_READING.test(error);
}

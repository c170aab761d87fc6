/** Explains failures of builds by their Dockerfile: BuildKit's own messages about such files do not name the cause. */
import { readFile, stat } from "node:fs/promises";
import { StepFailure } from "../job/failure.ts";
import { endOfRunStep } from "./failure.ts";

/** BuildKit reads no longer line, whatever its version. */
const MAX_LINE_BYTES = 65_535;
/** Limits of BuildKit's messages: 4 or 16 MiB, and none in some versions. */
const TOO_LARGE_FOR_VERSION = /\bmessage larger than max\b|\bCOMPRESSION_ERROR\b/;
/** A larger file is not read to find its fault. */
const MAX_READ_BYTES = 64 * 1024 * 1024;
const NO_INSTRUCTIONS = /^(failed to create LLB definition: )?file with no instructions\.?$/;

interface Fault {
  /** Completes "the Dockerfile". */
  readonly description: string;
  /** BuildKit cannot build any such file. */
  readonly isDecisive: boolean;
}

/** The Dockerfile is the job's, so a fault of it is never one of the worker or of the engine. */
export async function blamingDockerfile(error: StepFailure, path: string): Promise<StepFailure> {
  const { code, message, step } = error.failure;
  const isOther = (code !== "BUILD_FAILED" && code !== "INTERNAL") || endOfRunStep(message) !== undefined;
  const fault = isOther ? undefined : await faultOf(path, message);
  if (fault === undefined) return error;
  const { description, isDecisive } = fault;
  if (!isDecisive) {
    return new StepFailure({
      ...error.failure,
      message: `${message} (the Dockerfile ${description})`,
      cause: error,
    });
  }
  // BuildKit breaks the connection for some of them, which says nothing about the job.
  const reported = code === "INTERNAL" ? "" : `: ${message}`;
  const explained = `the Dockerfile ${description}${reported}`;
  return new StepFailure({ code: "BUILD_FAILED", step, message: explained, cause: error });
}

async function faultOf(path: string, message: string): Promise<Fault | undefined> {
  if (NO_INSTRUCTIONS.test(message)) return decisive("has only comments and empty lines");
  const { size } = await stat(path);
  const content = size > MAX_READ_BYTES ? Buffer.alloc(0) : await readFile(path);
  if (isUtf16(content)) return decisive("is encoded in UTF-16, and BuildKit reads UTF-8");
  const lineBytes = longestLine(content);
  if (lineBytes > MAX_LINE_BYTES)
    return decisive(`has a line of ${lineBytes} bytes, and BuildKit reads at most ${MAX_LINE_BYTES}`);
  if (TOO_LARGE_FOR_VERSION.test(message)) return decisive(`has ${size} bytes, too many for this BuildKit`);
  if (content.includes(0)) return { description: "contains NUL bytes", isDecisive: false };
  return isUtf8(content) ? undefined : { description: "is not valid UTF-8", isDecisive: false };
}

function decisive(description: string): Fault {
  return { description, isDecisive: true };
}

/** By its byte order mark, or by the zero byte of its first character. */
function isUtf16([first = 1, second = 1]: Uint8Array): boolean {
  const hasMark = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
  return hasMark || (first === 0) !== (second === 0);
}

function isUtf8(content: Uint8Array): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(content);
    return true;
  } catch {
    return false;
  }
}

function longestLine(content: Buffer): number {
  let longest = 0;
  for (let from = 0; from < content.length; ) {
    const end = content.indexOf("\n", from);
    const to = end < 0 ? content.length : end;
    longest = Math.max(longest, to - from);
    from = to + 1;
  }
  return longest;
}

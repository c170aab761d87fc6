/** The objects that buildx prints with `--progress=rawjson`, as far as they are read. */

export interface RawVertex {
  readonly digest: string;
  readonly name: string;
  /** Digests of the vertexes whose results it needs. */
  readonly inputs?: readonly string[];
  readonly started?: string;
  readonly completed?: string;
  readonly cached?: boolean;
  readonly error?: string;
}

/** Something that is done for a vertex, such as sending a layer. */
export interface RawStatus {
  readonly id: string;
  readonly vertex: string;
  readonly total?: number;
  readonly current?: number;
  readonly started?: string;
  readonly completed?: string;
}

export interface RawLog {
  readonly vertex: string;
  readonly stream: number;
  /** base64 */
  readonly data?: string;
  readonly timestamp: string;
}

export interface RawWarning {
  /** base64 */
  readonly short?: string;
}

export interface RawSolveStatus {
  readonly vertexes?: readonly RawVertex[];
  readonly statuses?: readonly RawStatus[];
  readonly logs?: readonly RawLog[];
  readonly warnings?: readonly RawWarning[];
}

/** BuildKit sends no more than 16 MiB at once, and base64 makes a third more of them. */
export const LONGEST_STATUS_CHARS = 32 * 1024 * 1024;

/** One object a line, or, from buildx before 0.15, one over several lines of which only the first and last are not indented. */
export class RawSolveStatuses {
  #lines: string[] | undefined;
  #chars = 0;

  /** `part` of an object, or the object that it completes, or a `word` that is no part of any. */
  take(line: string): RawSolveStatus | "part" | "word" {
    if (this.#lines) return this.#continue(this.#lines, line);
    if (line === "{") {
      this.#lines = [line];
      this.#chars = line.length;
      return "part";
    }
    return line.startsWith('{"') ? parsed(line) : "word";
  }

  #continue(lines: string[], line: string): RawSolveStatus | "part" {
    this.#chars += line.length;
    // Whatever it is: kept any longer it would fill memory.
    if (this.#chars <= LONGEST_STATUS_CHARS) lines.push(line);
    if (line !== "}") return "part";
    this.#lines = undefined;
    return parsed(lines.join("\n"));
  }
}

/** What cannot be read is left out: it may hold what a step has printed, which must not be told as it is. */
function parsed(text: string): RawSolveStatus {
  try {
    return JSON.parse(text) as RawSolveStatus;
  } catch {
    return {};
  }
}

/** The objects that buildx prints with `--progress=rawjson`: the fields that Blacktree reads. */

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

/** Work done for a vertex, such as sending a layer. */
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

/** BuildKit messages have at most 16 MiB, and base64 adds a third. */
export const MAX_STATUS_CHARS = 32 * 1024 * 1024;

/** One object per line; buildx before 0.15 spreads an object over several lines and indents all but the first and last. */
export class RawSolveStatuses {
  #lines: string[] | undefined;
  #chars = 0;

  /** Returns `part` for part of an object, the object once it is complete, and `message` for a line outside of objects. */
  take(line: string): RawSolveStatus | "part" | "message" {
    if (this.#lines) return this.#continue(this.#lines, line);
    if (line === "{") {
      this.#lines = [line];
      this.#chars = line.length;
      return "part";
    }
    return line.startsWith('{"') ? parsed(line) : "message";
  }

  #continue(lines: string[], line: string): RawSolveStatus | "part" {
    this.#chars += line.length;
    // Bounds memory; the truncated object then fails to parse and is dropped.
    if (this.#chars <= MAX_STATUS_CHARS) lines.push(line);
    if (line !== "}") return "part";
    this.#lines = undefined;
    return parsed(lines.join("\n"));
  }
}

/** Drops what cannot be parsed: it may hold a step's raw output, which must not reach the log unmasked. */
function parsed(text: string): RawSolveStatus {
  try {
    return JSON.parse(text) as RawSolveStatus;
  } catch {
    return {};
  }
}

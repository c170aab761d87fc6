/**
 * Reads `--progress=rawjson`: BuildKit's own account of a build, of which lines for people and steps are made. What a
 * RUN step prints comes in chunks, and cannot pass for anything else.
 */

import { LineAssembler } from "../../process/line-splitter.ts";
import type { BuildProgress, BuildStepEnd, ProgressListener } from "./progress.ts";
import {
  type RawLog,
  type RawSolveStatus,
  RawSolveStatuses,
  type RawStatus,
  type RawVertex,
  type RawWarning,
} from "./solve-status.ts";

const MOST_WORDS = 200;
/** Of what BuildKit does for a step: worth a line when it begins, since it can take long. */
const WORTH_TELLING = /^(exporting|pushing) (layers|manifest|cache)/;
const PUSHING = /^pushing (layers|manifest)\b/;
const PUSHED_MANIFEST = /^pushing manifest for \S+@(sha256:[0-9a-f]{64})$/;
const STORING_CACHE = /^exporting cache\b/;
const READING_CACHE = /^importing cache manifest\b/;
const INSTRUCTION = /^\[(?!internal\]|auth\])/;
/** Files that buildx sends: the Dockerfile, .dockerignore, the context. */
const SENT_FILES = /^\[internal\] load (?!metadata)/;
/** The image that `# syntax=` names. It is not an input of any step. */
const FRONTEND_IMAGE = /^docker-image:/;
const EXPORTING = /^exporting to\b/;

interface Vertex {
  readonly number: number;
  readonly name: string;
  readonly isInstruction: boolean;
  startedAt: Date;
  end?: BuildStepEnd;
  /** An end that is reported once it is known to be the last one: see `isLastEnd`. */
  pendingEnd?: BuildStepEnd;
  /** What a step prints, one for each of its streams. */
  readonly output: Map<number, StepOutput>;
  /** What BuildKit says it does for it, with whether that was told to be done. */
  readonly doings: Map<string, boolean>;
  /** The digest of the manifest that it pushes. */
  manifest?: string;
}

export class RawProgress implements BuildProgress {
  readonly argument = "--progress=rawjson";
  readonly #listener: ProgressListener;
  readonly #statuses = new RawSolveStatuses();
  readonly #vertices = new Map<string, Vertex>();
  readonly #words: string[] = [];
  #cacheError = "";
  #lastStepAtMs = Number.NEGATIVE_INFINITY;

  constructor(listener: ProgressListener) {
    this.#listener = listener;
  }

  line(line: string): void {
    const taken = this.#statuses.take(line);
    if (taken === "word") this.#word(line);
    else if (taken !== "part") this.#take(taken);
  }

  end(): void {
    for (const vertex of this.#vertices.values()) {
      this.#endOutput(vertex);
      this.#reportPendingEnd(vertex);
    }
    const steps = [...this.#vertices.values()].filter(({ isInstruction }) => isInstruction);
    const cached = steps.filter(({ end }) => end?.isCached).length;
    if (steps.length > 0) this.#listener.log(`${steps.length} steps, ${cached} cached`);
  }

  words(): readonly string[] {
    return this.#words;
  }

  get lastStepAtMs(): number {
    return this.#lastStepAtMs;
  }

  /** Why the cache was not stored; empty when it was, or was not to be. */
  get cacheError(): string {
    return this.#cacheError;
  }

  #word(line: string): void {
    this.#words.push(line);
    if (this.#words.length > MOST_WORDS) this.#words.shift();
    this.#listener.log(line);
  }

  /** Starts before and ends after what is told of a step in between. */
  #take({ vertexes = [], statuses = [], logs = [], warnings = [] }: RawSolveStatus): void {
    // One may have ended and begun again within what is told at once: how it is now counts.
    const latest = [...new Map(vertexes.map((vertex) => [vertex.digest, vertex])).values()];
    for (const vertex of latest) this.#start(vertex);
    for (const status of statuses) this.#doing(status);
    for (const log of logs) this.#output(log);
    for (const vertex of latest) this.#end(vertex);
    for (const warning of warnings) this.#warn(warning);
  }

  #start({ digest, name, started, inputs = [] }: RawVertex): void {
    if (started === undefined) return;
    const known = this.#vertices.get(digest);
    const startedAt = new Date(started);
    if (known?.startedAt.getTime() !== startedAt.getTime()) this.#reportEndsBefore(digest, name, inputs);
    if (known) {
      known.startedAt = startedAt;
      return;
    }
    const number = this.#vertices.size + 1;
    const isInstruction = INSTRUCTION.test(name);
    const vertex: Vertex = { number, name, isInstruction, startedAt, output: new Map(), doings: new Map() };
    this.#vertices.set(digest, vertex);
    this.#listener.log(`#${number} ${name}`);
    if (!isInstruction) return;
    this.#lastStepAtMs = performance.now();
    this.#listener.onStep({ number, name, startedAt });
  }

  /** When this vertex starts, what it needs has ended. */
  #reportEndsBefore(digest: string, name: string, inputs: readonly string[]): void {
    for (const [other, vertex] of this.#vertices) {
      if (other === digest) vertex.pendingEnd = undefined;
      const isOver = EXPORTING.test(name) || FRONTEND_IMAGE.test(vertex.name) || inputs.includes(other);
      if (isOver) this.#reportPendingEnd(vertex);
    }
  }

  #end(raw: RawVertex): void {
    const { digest, completed, cached = false, error = "" } = raw;
    const vertex = this.#vertices.get(digest);
    if (!vertex || completed === undefined) return;
    this.#endOutput(vertex);
    const at = new Date(completed);
    const durationMs = Math.max(0, at.getTime() - vertex.startedAt.getTime());
    vertex.pendingEnd = { at, durationMs, isCached: cached, error };
    if (isLastEnd(raw, vertex)) this.#reportPendingEnd(vertex);
  }

  #reportPendingEnd(vertex: Vertex): void {
    if (!vertex.pendingEnd) return;
    const { number, name, startedAt, pendingEnd: end } = vertex;
    vertex.end = end;
    vertex.pendingEnd = undefined;
    if (STORING_CACHE.test(name)) this.#cacheError = end.error;
    // The build goes on without it.
    const isOnlyCache = end.error !== "" && READING_CACHE.test(name);
    this.#listener.log(`#${number} ${isOnlyCache ? `no cache there: ${end.error}` : endWords(end)}`);
    if (vertex.isInstruction) this.#listener.onStep({ number, name, startedAt, end });
    // A push that fails is told to be done as well, and then the vertex has the error.
    if (vertex.manifest && end.error === "") this.#listener.onPushed?.(vertex.manifest);
  }

  #endOutput({ output }: Vertex): void {
    for (const stream of output.values()) stream.end();
    output.clear();
  }

  #doing({ vertex: digest, id, started, completed, total, current = 0 }: RawStatus): void {
    const vertex = this.#vertices.get(digest);
    if (!vertex || vertex.doings.get(id)) return;
    if (PUSHING.test(id)) this.#listener.onPushing();
    vertex.manifest = PUSHED_MANIFEST.exec(id)?.[1] ?? vertex.manifest;
    const isNew = !vertex.doings.has(id);
    vertex.doings.set(id, completed !== undefined);
    if (completed === undefined) {
      if (isNew && WORTH_TELLING.test(id)) this.#listener.log(`#${vertex.number} ${id}`);
      return;
    }
    const size = total || current ? ` ${inBytes(total || current)}` : "";
    const durationMs = started === undefined ? 0 : Date.parse(completed) - Date.parse(started);
    this.#listener.log(`#${vertex.number} ${id}${size} ${inSeconds(durationMs)} done`);
  }

  #output({ vertex: digest, stream, data, timestamp }: RawLog): void {
    const vertex = this.#vertices.get(digest);
    if (!vertex || data === undefined) return;
    const output = vertex.output.get(stream) ?? new StepOutput(vertex.number, this.#listener);
    vertex.output.set(stream, output);
    output.push(Buffer.from(data, "base64"), Date.parse(timestamp) - vertex.startedAt.getTime());
  }

  #warn({ short = "" }: RawWarning): void {
    this.#listener.log(`WARNING: ${Buffer.from(short, "base64").toString()}`);
  }
}

/** What a step prints to one of its streams, with the time since the step's start before each line. */
class StepOutput {
  readonly #lines: LineAssembler;
  #afterMs = 0;

  constructor(number: number, listener: ProgressListener) {
    this.#lines = new LineAssembler((line) => {
      listener.log(`#${number} ${(this.#afterMs / 1000).toFixed(3)} ${line}`);
    });
  }

  push(chunk: Uint8Array, afterMs: number): void {
    this.#afterMs = Math.max(0, afterMs);
    this.#lines.push(chunk);
  }

  end(): void {
    this.#lines.end();
  }
}

/**
 * BuildKit starts and ends a vertex without inputs several times: first to learn which version it is, then to fetch it.
 * It does not always report the first end, and does not fetch what is not needed. So of files that are sent, the end
 * counts after which something was sent; of a base image, the last one before a step starts that uses it.
 */
function isLastEnd(
  { inputs = [], cached, error }: RawVertex,
  { name, isInstruction, doings }: Vertex,
): boolean {
  if (cached || error || inputs.length > 0) return true;
  if (SENT_FILES.test(name)) return doings.size > 0;
  return !isInstruction && !FRONTEND_IMAGE.test(name);
}

function endWords({ isCached, error, durationMs }: BuildStepEnd): string {
  if (/context canceled$/.test(error)) return "CANCELED";
  if (error !== "") return `ERROR: ${error}`;
  return isCached ? "CACHED" : `DONE ${inSeconds(durationMs)}`;
}

function inSeconds(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)}s`;
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

function inBytes(bytes: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const amount = bytes / 1000 ** power;
  return `${power === 0 ? amount : amount.toFixed(2)}${UNITS[power]}`;
}

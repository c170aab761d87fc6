/**
 * Reads `--progress=rawjson`, BuildKit's structured account of a build, and turns it into log lines and steps. The
 * output of RUN steps arrives in chunks of its own, so a step cannot fake progress.
 */
import { messageLine } from "../../job/output-line.ts";
import { LineSplitter } from "../../process/line-splitter.ts";
import { saysStoppedReading, UNREAD_OUTPUT } from "./missing-output.ts";
import type { BuildProgress, BuildStepEnd, ProgressListener } from "./progress.ts";
import {
  type RawLog,
  type RawSolveStatus,
  RawSolveStatuses,
  type RawStatus,
  type RawVertex,
  type RawWarning,
} from "./solve-status.ts";

const MAX_TAIL_LINES = 200;
/** Work that can take long, so its start gets a log line, too. */
const LONG_RUNNING = /^(exporting|pushing) (layers|manifest|cache)/;
const PUSHING = /^pushing (layers|manifest)\b/;
const PUSHED_MANIFEST = /^pushing manifest for \S+@(sha256:[0-9a-f]{64})$/;
const STORING_CACHE = /^exporting cache\b/;
const READING_CACHE = /^importing cache manifest\b/;
const INSTRUCTION = /^\[(?!internal\]|auth\])/;
/** Files that buildx sends: the Dockerfile, .dockerignore, the context. */
const SENT_FILES = /^\[internal\] load (?!metadata)/;
/** The image that `# syntax=` names. It is an input of no step. */
const FRONTEND_IMAGE = /^docker-image:/;
const EXPORTING = /^exporting to\b/;

interface Vertex {
  readonly number: number;
  readonly name: string;
  readonly isInstruction: boolean;
  startedAt: Date;
  end?: BuildStepEnd;
  /** Reported once no later end can follow: see `isLastEnd`. */
  pendingEnd?: BuildStepEnd;
  hasOutput: boolean;
  /** The step's output, by stream number. */
  readonly output: Map<number, StepOutput>;
  /** The work that BuildKit reports for the vertex, by id; true once it is complete. */
  readonly work: Map<string, boolean>;
  /** Digest of the manifest that the vertex pushes. */
  manifest?: string;
}

export class RawProgress implements BuildProgress {
  readonly argument = "--progress=rawjson";
  readonly #listener: ProgressListener;
  readonly #statuses = new RawSolveStatuses();
  readonly #vertices = new Map<string, Vertex>();
  readonly #tail: string[] = [];
  #cacheError = "";
  #lastStepAtMs = Number.NEGATIVE_INFINITY;

  constructor(listener: ProgressListener) {
    this.#listener = listener;
  }

  line(line: string): void {
    const taken = this.#statuses.take(line);
    if (taken === "message") this.#message(line);
    else if (taken !== "part") this.#take(taken);
  }

  end(exitCode: number | undefined): void {
    for (const vertex of this.#vertices.values()) {
      this.#endOutput(vertex);
      this.#reportPendingEnd(vertex);
    }
    if (exitCode !== undefined && this.#isCutOff(exitCode)) this.#listener.output(messageLine(UNREAD_OUTPUT));
    const steps = [...this.#vertices.values()].filter(({ isInstruction }) => isInstruction);
    const cached = steps.filter(({ end }) => end?.isCached).length;
    if (steps.length > 0) this.#listener.output(messageLine(`${steps.length} steps, ${cached} cached`));
  }

  stderrTail(): readonly string[] {
    return this.#tail;
  }

  get isExportFailed(): boolean {
    return [...this.#vertices.values()].some(({ name, end }) => EXPORTING.test(name) && end?.error);
  }

  get lastStepAtMs(): number {
    return this.#lastStepAtMs;
  }

  /** Why the cache was not stored; empty when it was stored, or was not requested. */
  get cacheError(): string {
    return this.#cacheError;
  }

  /** The account of the build lacks its end: every step that has begun ends, and a successful build exports an image. */
  #isCutOff(exitCode: number): boolean {
    const vertices = [...this.#vertices.values()];
    if (vertices.some(({ hasOutput, end }) => hasOutput && !end)) return true;
    const isExported = vertices.some(({ name, end }) => EXPORTING.test(name) && end);
    return exitCode === 0 ? !isExported : this.#tail.some(saysStoppedReading);
  }

  #message(line: string): void {
    this.#tail.push(line);
    if (this.#tail.length > MAX_TAIL_LINES) this.#tail.shift();
    this.#listener.output(messageLine(line));
  }

  #say({ number }: Pick<Vertex, "number">, text: string): void {
    this.#listener.output({ stream: streamOf(number), prefix: `#${number} `, text });
  }

  /** Handles starts first and ends last, so a step's output is reported between them. */
  #take({ vertexes = [], statuses = [], logs = [], warnings = [] }: RawSolveStatus): void {
    // A vertex may end and start again within one message: its latest state counts.
    const latest = [...new Map(vertexes.map((vertex) => [vertex.digest, vertex])).values()];
    for (const vertex of latest) this.#start(vertex);
    for (const status of statuses) this.#work(status);
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
    const vertex: Vertex = {
      number,
      name,
      isInstruction,
      startedAt,
      hasOutput: false,
      output: new Map(),
      work: new Map(),
    };
    this.#vertices.set(digest, vertex);
    this.#say(vertex, name);
    if (!isInstruction) return;
    this.#lastStepAtMs = performance.now();
    this.#listener.onInstruction?.();
    this.#listener.onStep({ number, name, startedAt });
  }

  /** A vertex starts only after its inputs have ended. */
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
    // The build continues without the cache.
    const isOnlyCache = end.error !== "" && READING_CACHE.test(name);
    this.#say(vertex, isOnlyCache ? `no cache there: ${end.error}` : describeEnd(end));
    if (vertex.isInstruction) this.#listener.onStep({ number, name, startedAt, end });
    // A failed push is reported as complete, too, and then the vertex has the error.
    if (vertex.manifest && end.error === "") this.#listener.onPushed?.(vertex.manifest);
  }

  #endOutput({ output }: Vertex): void {
    for (const stream of output.values()) stream.end();
    output.clear();
  }

  #work({ vertex: digest, id, started, completed, total, current = 0 }: RawStatus): void {
    const vertex = this.#vertices.get(digest);
    if (!vertex || vertex.work.get(id)) return;
    if (PUSHING.test(id)) this.#listener.onPushing();
    vertex.manifest = PUSHED_MANIFEST.exec(id)?.[1] ?? vertex.manifest;
    const isNew = !vertex.work.has(id);
    vertex.work.set(id, completed !== undefined);
    if (completed === undefined) {
      if (isNew && LONG_RUNNING.test(id)) this.#say(vertex, id);
      return;
    }
    const size = total || current ? ` ${inBytes(total || current)}` : "";
    const durationMs = started === undefined ? 0 : Date.parse(completed) - Date.parse(started);
    this.#say(vertex, `${id}${size} ${inSeconds(durationMs)} done`);
  }

  #output({ vertex: digest, stream, data, timestamp }: RawLog): void {
    const vertex = this.#vertices.get(digest);
    if (!vertex || data === undefined) return;
    vertex.hasOutput = true;
    const output = vertex.output.get(stream) ?? new StepOutput(vertex.number, this.#listener);
    vertex.output.set(stream, output);
    output.push(Buffer.from(data, "base64"), Date.parse(timestamp) - vertex.startedAt.getTime());
  }

  #warn({ short = "" }: RawWarning): void {
    this.#listener.output(messageLine(`WARNING: ${Buffer.from(short, "base64").toString()}`));
  }
}

/** Output of one stream of a step; each line gets the time since the step's start as its prefix. */
class StepOutput {
  readonly #lines: LineSplitter;
  #afterMs = 0;

  constructor(number: number, listener: ProgressListener) {
    this.#lines = new LineSplitter((line) => {
      const prefix = `#${number} ${(this.#afterMs / 1000).toFixed(3)} `;
      listener.output({ stream: streamOf(number), prefix, text: line });
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

/** Standard output and standard error of a step share one stream: a program may print a secret partly to each. */
function streamOf(number: number): string {
  return `#${number}`;
}

/**
 * BuildKit starts and ends a vertex without inputs several times: first to resolve its version, then to fetch it. It
 * does not always report the first end, and does not fetch what is not needed. So for files that are sent, the end
 * after the transfer counts; for a base image, the last end before a step starts that uses it.
 */
function isLastEnd(
  { inputs = [], cached, error }: RawVertex,
  { name, isInstruction, work }: Vertex,
): boolean {
  if (cached || error || inputs.length > 0) return true;
  if (SENT_FILES.test(name)) return work.size > 0;
  return !isInstruction && !FRONTEND_IMAGE.test(name);
}

function describeEnd({ isCached, error, durationMs }: BuildStepEnd): string {
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

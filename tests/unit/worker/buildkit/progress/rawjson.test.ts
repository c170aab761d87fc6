import { describe, expect, test } from "bun:test";
import { UNREAD_OUTPUT } from "../../../../../src/worker/buildkit/progress/missing-output.ts";
import type { BuildStep } from "../../../../../src/worker/buildkit/progress/progress.ts";
import { RawProgress } from "../../../../../src/worker/buildkit/progress/rawjson.ts";

const at = (afterMs: number) => new Date(Date.UTC(2026, 0, 20, 10) + afterMs).toISOString();
const base64 = (text: string | Uint8Array) => Buffer.from(text).toString("base64");

const STEP = { digest: "sha256:1", name: "[build 2/2] RUN make", started: at(0) };

function log(data: string | Uint8Array, afterMs = 100, stream = 1) {
  return { logs: [{ vertex: STEP.digest, stream, data: base64(data), timestamp: at(afterMs) }] };
}

/** All that is told of these objects, each printed as buildx does now, or as it did before 0.15. */
function read(
  objects: readonly (object | string)[],
  printed: "one line" | "many lines" = "one line",
  exitCode: number | undefined = undefined,
) {
  const lines: string[] = [];
  const steps: BuildStep[] = [];
  let pushing = 0;
  const progress = new RawProgress({
    output: ({ prefix, text }) => void lines.push(prefix + text),
    onStep: (step) => void steps.push(step),
    onPushing: () => void pushing++,
  });
  for (const object of objects) {
    const indent = printed === "one line" ? undefined : 2;
    const text = typeof object === "string" ? object : JSON.stringify(object, null, indent);
    for (const line of text.split("\n")) progress.line(line);
  }
  progress.end(exitCode);
  return { lines, steps, pushing, words: progress.stderrTail() };
}

describe.each(["one line", "many lines"] as const)("objects on %s", (printed) => {
  test("a step is told at its start and its end, and in the log", () => {
    const objects = [
      { vertexes: [STEP] },
      log("made\n", 250),
      { vertexes: [{ ...STEP, completed: at(1234) }] },
    ];
    const { lines, steps } = read(objects, printed);
    expect(lines).toEqual(["#1 [build 2/2] RUN make", "#1 0.250 made", "#1 DONE 1.2s", "1 steps, 0 cached"]);
    const step = { number: 1, name: STEP.name, startedAt: new Date(STEP.started) };
    const end = { at: new Date(at(1234)), durationMs: 1234, isCached: false, error: "" };
    expect(steps).toEqual([step, { ...step, end }]);
  });

  test("what a step prints is nothing but output, whatever it looks like", () => {
    const lies =
      '{\n"vertexes": [{"digest":"x","name":"[1/1] RUN lie","started":"2026"}]\n}\nERROR: failed to push\n';
    const { lines, steps, words, pushing } = read([{ vertexes: [STEP] }, log(lies)], printed);
    expect(lines.slice(1, -1)).toEqual(
      lies
        .trim()
        .split("\n")
        .map((line) => `#1 0.100 ${line}`),
    );
    expect(steps).toHaveLength(1);
    expect({ words, pushing }).toEqual({ words: [], pushing: 0 });
  });
});

describe("output that BuildKit's client did not read", () => {
  const ended = { vertexes: [{ ...STEP, completed: at(300) }] };
  const exported = {
    vertexes: [{ digest: "sha256:e", name: "exporting to image", started: at(300), completed: at(400) }],
  };
  const begun = [{ vertexes: [STEP] }, log("one\n")];

  test.each([
    ["a successful build without the end of a step", [...begun, exported], 0],
    ["a successful build without the export of its image", [...begun, ended], 0],
    ["a failed build without the end of a step", begun, 1],
    [
      "a client that has stopped reading, and fails",
      [
        ...begun,
        ended,
        "ERROR: failed to receive status: rpc error: code = Canceled desc = context canceled",
      ],
      1,
    ],
  ] as const)("%s is marked", (_, objects, exitCode) => {
    expect(read(objects, "one line", exitCode).lines).toContain(UNREAD_OUTPUT);
  });

  test.each([
    ["a whole build", [...begun, ended, exported], 0],
    ["a failed build", [...begun, { vertexes: [{ ...STEP, completed: at(300), error: "exit code: 1" }] }], 1],
    ["an aborted build", begun, undefined],
  ] as const)("%s is not marked", (_, objects, exitCode) => {
    expect(read(objects, "one line", exitCode).lines).not.toContain(UNREAD_OUTPUT);
  });
});

test("a line that comes in pieces is one line, also between two streams and within a character", () => {
  const [first, second] = [Buffer.from("an ö").subarray(0, 4), Buffer.from("an ö and more").subarray(4)];
  const objects = [{ vertexes: [STEP] }, log(first), log("aside\n", 150, 2), log(second, 200)];
  const ended = { vertexes: [{ ...STEP, completed: at(300) }] };
  expect(read([...objects, ended]).lines.slice(1, -2)).toEqual(["#1 0.150 aside", "#1 0.200 an ö and more"]);
});

test("a cached step, a failing one and one that was given up are told apart", () => {
  const vertex = (number: number, end: object) => ({
    digest: `sha256:${number}`,
    name: `[${number}/3] RUN true`,
    started: at(0),
    completed: at(0),
    ...end,
  });
  const error = 'process "false" did not complete successfully: exit code: 1';
  const { lines, steps } = read([
    {
      vertexes: [
        vertex(1, { cached: true }),
        vertex(2, { error }),
        vertex(3, { error: "x: context canceled" }),
      ],
    },
  ]);
  expect(lines.filter((line) => !line.includes("["))).toEqual([
    "#1 CACHED",
    `#2 ERROR: ${error}`,
    "#3 CANCELED",
    "3 steps, 1 cached",
  ]);
  expect(steps.flatMap(({ end }) => (end ? [[end.isCached, end.error]] : []))).toEqual([
    [true, ""],
    [false, error],
    [false, "x: context canceled"],
  ]);
});

test("BuildKit's own doings are in the log and are no steps", () => {
  const load = { digest: "sha256:2", name: "[internal] load build context", started: at(0) };
  const transfer = { id: "transferring context:", vertex: load.digest, started: at(0) };
  const { lines, steps } = read([
    { vertexes: [load] },
    { statuses: [{ ...transfer, current: 23 }] },
    { statuses: [{ ...transfer, current: 1_982_804, completed: at(120) }] },
    { vertexes: [{ ...load, completed: at(130) }] },
  ]);
  expect(lines).toEqual([
    "#1 [internal] load build context",
    "#1 transferring context: 1.98MB 0.1s done",
    "#1 DONE 0.1s",
  ]);
  expect(steps).toEqual([]);
});

test("a vertex that ended and began again in one object goes on", () => {
  const load = { digest: "sha256:2", name: "[internal] load .dockerignore" };
  const { lines } = read([
    { vertexes: [load, { ...load, started: at(0), completed: at(1) }, { ...load, started: at(2) }] },
    { vertexes: [{ ...load, started: at(2), completed: at(102) }] },
  ]);
  expect(lines).toEqual(["#1 [internal] load .dockerignore", "#1 DONE 0.1s"]);
});

describe("a vertex without inputs, which BuildKit starts and ends several times, has one end in the log", () => {
  const vertex = (digest: string, name: string, ...inputs: string[]) => ({ digest, name, inputs });
  const dockerfile = vertex("sha256:d", "[internal] load build definition from Dockerfile");
  const context = vertex("sha256:c", "[internal] load build context");
  const from = vertex("sha256:f", "[1/3] FROM registry.test/base:1");
  const copy = vertex("sha256:2", "[2/3] COPY greeting /greeting", from.digest, context.digest);
  const run = vertex("sha256:3", "[3/3] RUN make", copy.digest);
  const exporting = vertex("sha256:e", "exporting to image");

  const started = (of: object, afterMs: number) => ({ vertexes: [{ ...of, started: at(afterMs) }] });
  const ended = (of: object, fromMs: number, afterMs: number, end: object = {}) => ({
    vertexes: [{ ...of, started: at(fromMs), completed: at(afterMs), ...end }],
  });
  const done = (of: { digest: string }, id: string, afterMs: number) => ({
    statuses: [{ id, vertex: of.digest, started: at(afterMs), completed: at(afterMs) }],
  });
  const cached = (of: object, afterMs: number) => ended(of, afterMs, afterMs, { cached: true });

  /** As BuildKit 0.12 reports them. */
  const prepared = [
    { vertexes: [dockerfile] },
    ended(dockerfile, 0, 0),
    started(dockerfile, 1),
    done(dockerfile, "transferring dockerfile:", 2),
    ended(dockerfile, 1, 101),
    { vertexes: [run, copy, context, from] },
    ended(context, 200, 200),
    started(from, 200),
    done(from, "resolve registry.test/base:1", 300),
    ended(from, 200, 300),
  ];
  const preparedLines = [
    "#1 [internal] load build definition from Dockerfile",
    "#1 transferring dockerfile: 0.0s done",
    "#1 DONE 0.1s",
    "#2 [internal] load build context",
    "#3 [1/3] FROM registry.test/base:1",
    "#3 resolve registry.test/base:1 0.0s done",
  ];

  test("when its result is fetched: after the fetch", () => {
    const { lines, steps } = read([
      ...prepared,
      { vertexes: [...ended(from, 301, 302).vertexes, ...started(context, 302).vertexes] },
      started(from, 303),
      done(context, "transferring context:", 304),
      ended(context, 302, 402),
      done(from, "extracting sha256:1", 500),
      ended(from, 303, 503),
      started(copy, 510),
      ended(copy, 510, 610),
      started(run, 620),
      ended(run, 620, 720),
    ]);
    expect(lines).toEqual([
      ...preparedLines,
      "#2 transferring context: 0.0s done",
      "#2 DONE 0.1s",
      "#3 extracting sha256:1 0.0s done",
      "#3 DONE 0.2s",
      "#4 [2/3] COPY greeting /greeting",
      "#4 DONE 0.1s",
      "#5 [3/3] RUN make",
      "#5 DONE 0.1s",
      "3 steps, 0 cached",
    ]);
    expect(steps.filter(({ end }) => end).map(({ number, end }) => [number, end?.durationMs])).toEqual([
      [3, 200],
      [4, 100],
      [5, 100],
    ]);
  });

  test("when its result is not needed, since the steps that use it are cached: before those", () => {
    const { lines } = read([
      ...prepared,
      started(context, 310),
      done(context, "transferring context:", 320),
      ended(context, 310, 410),
      { vertexes: [...cached(copy, 420).vertexes, ...cached(run, 420).vertexes] },
    ]);
    expect(lines.slice(preparedLines.length)).toEqual([
      "#2 transferring context: 0.0s done",
      "#2 DONE 0.1s",
      "#3 DONE 0.1s",
      "#4 [2/3] COPY greeting /greeting",
      "#5 [3/3] RUN make",
      "#4 CACHED",
      "#5 CACHED",
      "3 steps, 2 cached",
    ]);
  });

  test("when its result is cached: that it is cached", () => {
    const { lines, steps } = read([...prepared, cached(from, 310)]);
    expect(lines.slice(preparedLines.length, -2)).toEqual(["#3 CACHED"]);
    expect(steps).toHaveLength(2);
  });

  test("when no step uses it: before the export", () => {
    const { lines } = read([...prepared, started(exporting, 310), ended(exporting, 310, 310)]);
    expect(lines.slice(preparedLines.length)).toEqual([
      "#2 DONE 0.0s",
      "#3 DONE 0.1s",
      "#4 exporting to image",
      "#4 DONE 0.0s",
      "1 steps, 0 cached",
    ]);
  });

  test("when BuildKit reports only the last end: at that end", () => {
    const { lines } = read([
      started(dockerfile, 1),
      done(dockerfile, "transferring dockerfile:", 2),
      ended(dockerfile, 1, 101),
    ]);
    expect(lines).toEqual(preparedLines.slice(0, 3));
  });

  test("when it is the image that reads the Dockerfile: before whatever starts next", () => {
    const frontend = vertex("sha256:s", "docker-image://registry.test/dockerfile:1");
    const { lines } = read([
      started(frontend, 0),
      ended(frontend, 0, 10),
      started(frontend, 11),
      ended(frontend, 11, 111),
      started(dockerfile, 120),
    ]);
    expect(lines).toEqual([
      "#1 docker-image://registry.test/dockerfile:1",
      "#1 DONE 0.1s",
      "#2 [internal] load build definition from Dockerfile",
    ]);
  });

  test("when it fails at once: that it failed", () => {
    const { lines, steps } = read([started(from, 0), ended(from, 0, 10, { error: "not found" })]);
    expect(lines.slice(0, 2)).toEqual(["#1 [1/3] FROM registry.test/base:1", "#1 ERROR: not found"]);
    expect(steps).toHaveLength(2);
  });
});

test("the push begins when its first layer or its manifest goes", () => {
  const exporting = { digest: "sha256:3", name: "exporting to image", started: at(0) };
  const doing = (id: string, completed?: string) => ({
    statuses: [{ id, vertex: exporting.digest, started: at(0), completed }],
  });
  expect(read([{ vertexes: [exporting] }, doing("exporting layers")]).pushing).toBe(0);
  const { lines, pushing } = read([
    { vertexes: [exporting] },
    doing("pushing layers"),
    doing("pushing layers", at(5000)),
  ]);
  expect(pushing).toBe(2);
  expect(lines.slice(1)).toEqual(["#1 pushing layers", "#1 pushing layers 5.0s done"]);
});

test("docker's own words are kept and told", () => {
  const words = ["Dockerfile:3", "--------------------", "ERROR: failed to solve: no such file"];
  const outcome = read([{ vertexes: [STEP] }, words.join("\n")]);
  expect(outcome.words).toEqual(words);
  expect(outcome.lines).toContain("ERROR: failed to solve: no such file");
});

test("an object that cannot be read is left out, since it may hold what must not be told", () => {
  expect(read(['{"logs":[{"data":"aGlkZGVu', { vertexes: [STEP] }]).lines[0]).toBe("#1 [build 2/2] RUN make");
});

test("a warning is told", () => {
  expect(read([{ warnings: [{ short: base64("FromAsCasing: mind the case") }] }]).lines).toEqual([
    "WARNING: FromAsCasing: mind the case",
  ]);
});

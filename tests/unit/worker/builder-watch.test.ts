import { afterEach, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import pino from "pino";
import { BuilderWatch, type BuilderWatchOptions } from "../../../src/worker/builder-watch.ts";
import {
  type EngineAccess,
  type ImageBuilder,
  NoUsableBuilder,
} from "../../../src/worker/buildkit/builder.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const CAPABILITIES = { multiPlatform: true, provenance: true, secrets: true, registryCache: true };

/** An engine that the test controls. */
class Engine {
  version = "26";
  platforms = ["linux/amd64"];
  isFrozen = false;
  fault: string | undefined;
  detections = 0;
  /** Until then, answers are on their way: they are about the engine as it was when it was asked. */
  arrival: Promise<void> | undefined;

  builder(): ImageBuilder {
    const unused = () => Promise.reject(new Error("not used"));
    return {
      kind: "direct",
      description: `engine ${this.version}`,
      location: "/run/docker.sock",
      capabilities: { ...CAPABILITIES, platforms: this.platforms },
      buildAndPush: unused,
      cleanUp: unused,
      removeImages: unused,
      prune: unused,
      identity: ({ signal }: EngineAccess) => this.#identity(signal),
    };
  }

  async detect(): Promise<ImageBuilder> {
    this.detections += 1;
    if (this.fault !== undefined || this.isFrozen) throw new NoUsableBuilder(this.fault ?? "frozen");
    return this.builder();
  }

  async #identity(signal: AbortSignal): Promise<string> {
    if (this.isFrozen) await new Promise((_, reject) => signal.addEventListener("abort", reject));
    const { fault, version } = this;
    await this.arrival;
    if (fault !== undefined) throw new Error(fault);
    return version;
  }
}

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function watch(engine: Engine, options: Partial<BuilderWatchOptions> = {}) {
  const lines: { msg: string; reason?: string }[] = [];
  const logger = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  let changes = 0;
  const watched = new BuilderWatch({
    endpoint: undefined,
    detect: () => engine.detect(),
    access: { cwd: "/", environment: { PATH: process.env.PATH ?? "" } },
    logger,
    onNewCapabilities: () => {
      changes += 1;
    },
    checkIntervalMs: 5,
    ...options,
  });
  watched.begin(engine.builder());
  const monitor = () => {
    const stop = new AbortController();
    stops.push(() => stop.abort(new Error("the test is over")));
    void watched.monitor(stop.signal);
  };
  const until = async (isRefusing: boolean) => {
    await waitFor(() => (watched.refusal !== undefined) === isRefusing, {
      timeoutMs: 30_000,
      what: isRefusing ? "a refusal" : "no refusal",
    });
  };
  return { watched, lines, monitor, until, changes: () => changes };
}

test("an engine that does not answer, and one that is back, are logged once each, and jobs are refused between", async () => {
  const engine = new Engine();
  const { watched, lines, monitor, until } = watch(engine);
  monitor();
  engine.fault = "Cannot connect to the Docker daemon";
  await until(true);
  expect(watched.refusal).toBe("no usable builder: Cannot connect to the Docker daemon");
  const detections = engine.detections;
  await waitFor(() => engine.detections > detections + 3, { timeoutMs: 30_000, what: "further checks" });
  engine.fault = undefined;
  await until(false);
  expect(lines.map(({ msg }) => msg)).toEqual([
    "not accepting jobs: no usable builder",
    "builder usable again; accepting jobs",
  ]);
});

test("a frozen engine is noticed by the time limit of the check", async () => {
  const engine = new Engine();
  const { watched, monitor, lines, until } = watch(engine, { checkTimeoutMs: 10 });
  engine.isFrozen = true;
  monitor();
  await until(true);
  expect(lines[0]?.reason).toBe("no answer within 10 ms");
  engine.isFrozen = false;
  await until(false);
  expect(await watched.builder()).toMatchObject({ description: "engine 26" });
});

test("another version that starts between two checks is detected, and its capabilities are announced", async () => {
  const engine = new Engine();
  const { watched, changes } = watch(engine);
  expect(await watched.problem()).toBeUndefined();
  expect(engine.detections).toBe(0);
  engine.version = "27";
  expect(await watched.problem()).toBeUndefined();
  expect(await watched.builder()).toMatchObject({ description: "engine 27" });
  expect(changes()).toBe(0);
  engine.version = "28";
  engine.platforms = ["linux/amd64", "linux/arm64"];
  expect(await watched.problem()).toBeUndefined();
  expect(changes()).toBe(1);
});

test("a host without git is asked for a builder again, which names git", async () => {
  const engine = new Engine();
  const access = { cwd: "/", environment: { PATH: "/nowhere" } };
  const { watched } = watch(engine, { access });
  engine.fault = "git is not installed";
  expect(await watched.problem()).toBe("no usable builder: git is not installed");
});

test("a failed run learns why nothing can be built, without waiting for the next check", async () => {
  const engine = new Engine();
  const { watched } = watch(engine);
  engine.fault = "gone";
  expect(await watched.problem()).toBe("no usable builder: gone");
  expect(watched.refusal).toBe("no usable builder: gone");
});

test("a failed run learns of a fault that a check under way has not noticed", async () => {
  const engine = new Engine();
  const { watched } = watch(engine);
  const arrival = Promise.withResolvers<void>();
  engine.arrival = arrival.promise;
  const earlier = watched.problem();
  engine.fault = "gone";
  const failed = watched.problem();
  arrival.resolve();
  expect(await failed).toBe("no usable builder: gone");
  await earlier;
});

function listen(path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve) => server.listen(path, () => resolve(server)));
}

test("a job is refused at once when nothing listens at the engine's socket", async () => {
  const dir = await makeTempDir("endpoint");
  stops.push(() => void dir.remove());
  const path = join(dir.path, "engine.sock");
  const server = await listen(path);
  const { watched } = watch(new Engine(), { endpoint: { path } });
  await watched.beforeJob();
  expect(watched.refusal).toBeUndefined();
  await new Promise((resolve) => server.close(resolve));
  await rm(path, { force: true });
  await watched.beforeJob();
  expect(watched.refusal).toBe(
    `no usable builder: ${path}: the socket file does not exist: start Docker or BuildKit, or set DOCKER_HOST`,
  );
});

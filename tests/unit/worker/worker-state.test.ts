import { expect, test } from "bun:test";
import { WorkerState } from "../../../src/worker/worker-state.ts";

const parts = {
  runs: {
    status: () => "FREE" as const,
    refusal: () => undefined as string | undefined,
    running: 1,
    ended: 3,
  },
  disks: { freeBytes: 41e9 },
};

test("a starting worker progresses, waits, and is ready once it is registered", () => {
  const state = new WorkerState(parts);
  expect(state.describe()).toEqual({
    isReady: false,
    isProgressing: true,
    status: "looking for Docker or BuildKit",
  });
  state.waiting("no orchestrator reachable");
  expect(state.describe()).toEqual({
    isReady: false,
    isProgressing: false,
    status: "waiting: no orchestrator reachable",
  });
  state.registered();
  expect(state.describe()).toEqual({
    isReady: true,
    isProgressing: false,
    status: "FREE, 1 job running, 3 jobs done, 41.0 GB free",
  });
});

test("a registered worker that has lost its orchestrators remains ready", () => {
  const state = new WorkerState(parts);
  state.registered();
  state.waiting("no orchestrator reachable");
  expect(state.describe()).toMatchObject({ isReady: true, status: "waiting: no orchestrator reachable" });
});

test("a worker that accepts no jobs says why", () => {
  const refusal = () => "disk below its reserve";
  const state = new WorkerState({ ...parts, runs: { ...parts.runs, refusal } });
  state.registered();
  expect(state.describe().status).toBe("disk below its reserve");
});

test("a draining worker extends its time until the drain timeout, whatever its registration does", () => {
  const state = new WorkerState(parts);
  state.registered();
  state.draining(60_000);
  state.waiting("no orchestrator reachable");
  expect(state.describe()).toMatchObject({
    isProgressing: true,
    status: "DRAINING, 1 job running, 3 jobs done",
  });
  const late = new WorkerState(parts);
  late.draining(0);
  expect(late.describe().isProgressing).toBe(false);
});

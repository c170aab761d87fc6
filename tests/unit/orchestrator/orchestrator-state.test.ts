import { expect, test } from "bun:test";
import type { WorkerView } from "../../../src/orchestrator/leases/leases.ts";
import { OrchestratorState } from "../../../src/orchestrator/orchestrator-state.ts";

const workers = ["FREE", "BUSY", "FREE"].map((status) => ({ status }) as WorkerView);
const parts = {
  queue: { isReady: true, waiting: async () => 12 },
  leases: { isReady: true, workers: async () => workers },
  records: { isReady: true },
  names: { queue: "rabbitmq", leases: "redis" },
  runningJobs: () => 2,
};

test("an orchestrator that takes jobs is ready, and counts jobs and workers", async () => {
  expect(await new OrchestratorState(parts).describe()).toEqual({
    isReady: true,
    isProgressing: false,
    status: "2 jobs running here; 12 jobs waiting; workers: 2 FREE, 1 BUSY",
  });
});

test.each([
  [{ queue: { ...parts.queue, isReady: false } }, "waiting for rabbitmq"],
  [{ records: { isReady: false } }, "waiting for redis"],
  [
    { queue: { ...parts.queue, isReady: false }, leases: { ...parts.leases, isReady: false } },
    "waiting for rabbitmq and redis",
  ],
])("an orchestrator without %j is not ready", async (missing, status) => {
  const described = await new OrchestratorState({ ...parts, ...missing }).describe();
  expect(described).toEqual({ isReady: false, isProgressing: false, status });
});

test("an orchestrator whose jobs cannot be counted is ready, and its status says why", async () => {
  const waiting = () => Promise.reject(new Error("queue not found"));
  const state = new OrchestratorState({ ...parts, queue: { isReady: true, waiting } });
  expect(await state.describe()).toMatchObject({
    isReady: true,
    status: "2 jobs running here; cannot count workers and waiting jobs: queue not found",
  });
});

test("an orchestrator is ready while its broker does not answer the count, which it repeats only after an answer", async () => {
  const answer = Promise.withResolvers<number>();
  let asked = 0;
  const waiting = () => {
    asked += 1;
    return answer.promise;
  };
  const state = new OrchestratorState({ ...parts, queue: { isReady: true, waiting } });
  expect(await state.describe()).toMatchObject({ isReady: true });
  const second = state.describe();
  answer.resolve(3);
  expect((await second).status).toContain("3 jobs waiting");
  expect(asked).toBe(1);
});

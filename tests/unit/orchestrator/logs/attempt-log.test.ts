import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import {
  type AttemptLogParts,
  AttemptLogs,
  LogMissing,
} from "../../../../src/orchestrator/logs/attempt-log.ts";
import type { LogStore } from "../../../../src/orchestrator/logs/log-store.ts";
import type { LogPlace } from "../../../../src/orchestrator/records/log-places.ts";
import type { JobEvent } from "../../../../src/shared/job.ts";
import { encodeEntry } from "../../../../src/shared/log-journal.ts";
import { RpcError } from "../../../../src/shared/rpc/status.ts";

const at = "2026-01-02T03:04:05Z";
const signal = new AbortController().signal;
const OWN = "own";
const PEER = "peer";

interface Situation {
  readonly place?: LogPlace;
  /** The run has the job's claim. */
  readonly isClaimed?: boolean;
  /** The worker has the run's log. */
  readonly isAtWorker?: boolean;
  /** This orchestrator's folder has a file with the log's name. */
  readonly isInFolder?: boolean;
  readonly isInBucket?: boolean;
  readonly readPeer?: AttemptLogParts["readPeer"];
}

/** Each place has a log of one line, which names the place. */
async function* journalOf(name: string): AsyncGenerator<Buffer> {
  yield Buffer.from(encodeEntry({ seq: 1, at, line: name }) + encodeEntry({ seq: 2, at, state: "FAILED" }));
}

function storeOf(name: string, hasLog = true): LogStore {
  return {
    put: () => Promise.reject(),
    async read(_, reader) {
      reader.throwIfAborted();
      return hasLog ? journalOf(name) : undefined;
    },
  };
}

function attemptLogs({
  place,
  isClaimed = false,
  isAtWorker = false,
  isInFolder = true,
  isInBucket = true,
  readPeer = () => journalOf("peer"),
}: Situation) {
  const worker = { workerId: "w", incarnation: "i", address: "worker:1", hasLease: true };
  const client = {
    async *readLog() {
      if (!isAtWorker) throw new RpcError(status.FAILED_PRECONDITION, "not held here");
      yield* journalOf("worker");
    },
    close: () => undefined,
  };
  return new AttemptLogs({
    store: storeOf("folder", isInFolder),
    shared: storeOf("bucket", isInBucket),
    id: OWN,
    places: {
      find: async () => new Map(place && [[1, { ...place, tenant: "acme" }]]),
      addressOf: async (id: string) => `${id}:5051`,
    },
    leases: {
      find: async () => (isClaimed ? { jobId: "job", attempt: 1, ...worker } : undefined),
      workers: async () => [worker],
    },
    connectDedicated: () => client,
    readPeer,
  } as unknown as AttemptLogParts);
}

const events = [{ attempt: 1, worker_id: "w" }] as unknown as readonly JobEvent[];

async function placeRead(situation: Situation): Promise<string> {
  const attempt = { jobId: "job", attempt: 1, events };
  const options = { afterSeq: 0, pastOnly: false };
  const [[first] = []] = await Array.fromAsync(attemptLogs(situation).read(attempt, options, signal));
  return first && "line" in first ? first.line : "";
}

describe("a log is read from its place, also beside the file of an earlier job with the same id", () => {
  test.each<[string, Situation]>([
    ["worker", { isClaimed: true, isAtWorker: true }],
    // Between the end of the run and the end of the copy.
    ["worker", { isAtWorker: true }],
    ["worker", { place: { kind: "missing", reason: "lost" }, isAtWorker: true }],
    // Of a delayed upload of the earlier job's log.
    ["worker", { place: { kind: "store", id: OWN }, isClaimed: true, isAtWorker: true }],
    ["folder", { place: { kind: "orchestrator", id: OWN } }],
    ["folder", { place: { kind: "orchestrator", id: OWN }, isClaimed: true }],
    ["peer", { place: { kind: "orchestrator", id: PEER } }],
    ["folder", { place: { kind: "store", id: OWN } }],
    ["bucket", { place: { kind: "store", id: OWN }, isInFolder: false }],
    ["bucket", { place: { kind: "store", id: PEER } }],
  ])("%s: %p", async (name, situation) => {
    expect(await placeRead(situation)).toBe(name);
  });

  test.each<[string, Situation]>([
    ["the worker was lost", { place: { kind: "missing", reason: "the worker was lost" } }],
    ["no log of attempt 1 is kept", {}],
    ["the log has been removed", { place: { kind: "orchestrator", id: OWN }, isInFolder: false }],
    ["the log is no longer in the bucket", { place: { kind: "store", id: PEER }, isInBucket: false }],
  ])("%s: %p", async (reason, situation) => {
    const failure = await placeRead(situation).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(LogMissing);
    expect((failure as LogMissing).message).toContain(reason);
  });
});

test("a reader that disconnects while the log is being opened ends the reading without an error", async () => {
  const reader = new AbortController();
  const attempts = attemptLogs({ place: { kind: "orchestrator", id: OWN } });
  const entries = Array.fromAsync(
    attempts.read({ jobId: "job", attempt: 1, events }, { afterSeq: 0, pastOnly: true }, reader.signal),
  );
  reader.abort(new Error("disconnected"));
  expect(await entries).toEqual([]);
});

describe("an orchestrator that does not answer", () => {
  const startMs = performance.now();
  let passedMs = 0;
  let clock: { mockRestore(): void } | undefined;
  beforeAll(() => {
    clock = spyOn(performance, "now").mockImplementation(() => startMs + passedMs);
  });
  afterAll(() => clock?.mockRestore());

  /** As when a port refuses connections: a try to connect lasts 3 s. */
  const noConnection = () => {
    passedMs += 3000;
    return new RpcError(status.UNAVAILABLE, "no connection to peer:5051");
  };
  const place: LogPlace = { kind: "orchestrator", id: PEER };

  test("is given up after a few seconds", async () => {
    let tries = 0;
    const readPeer = async function* () {
      tries += 1;
      yield* [];
      throw noConnection();
    };
    const failure = await placeRead({ place, readPeer }).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      message: "the log cannot be read now: no connection to peer:5051",
      isTemporary: true,
    });
    expect(tries).toBe(3);
  });

  test("is asked again as long as it sends entries between its failures", async () => {
    const count = 10;
    let tries = 0;
    const readPeer: AttemptLogParts["readPeer"] = async function* (_, __, afterSeq) {
      tries += 1;
      if (tries % 2 === 0) throw noConnection();
      const seq = afterSeq + 1;
      const entry = seq === count ? { seq, at, state: "FAILED" as const } : { seq, at, line: String(seq) };
      yield Buffer.from(encodeEntry(entry));
      throw noConnection();
    };
    const attempt = { jobId: "job", attempt: 1, events };
    const options = { afterSeq: 0, pastOnly: false };
    const batches = await Array.fromAsync(attemptLogs({ place, readPeer }).read(attempt, options, signal));
    expect(batches.flat().map(({ seq }) => seq)).toEqual(
      Array.from({ length: count }, (_, index) => index + 1),
    );
  });
});

/** Mutations of the fence, the acks and the leases, each with the test that has to fail. */

/** A test file, or those of its tests whose name contains `name`. */
export interface TestSelection {
  readonly file: string;
  readonly name?: string;
}

/** A drill with these arguments, on programs that are compiled with the mutation. */
export interface DrillRun {
  readonly drill: readonly string[];
}

export interface Mutation {
  /** What the mutated code does wrong. */
  readonly name: string;
  readonly file: string;
  /** Occurs once in the file. */
  readonly from: string;
  readonly to: string;
  readonly test: TestSelection | DrillRun;
}

type Change = Pick<Mutation, "name" | "from" | "to">;

const integration = (path: string, name?: string): TestSelection => ({
  file: `tests/integration/${path}`,
  name,
});
const REDIS_LEASES = integration("orchestrator/leases/redis.test.ts");
const IN_PROCESS_LEASES = integration("orchestrator/leases/in-process.test.ts");
const REDIS_RECORDS = integration("orchestrator/records/redis.test.ts");
const QUEUE = "orchestrator/queue/rabbitmq/queue.test.ts";
const FAULTS = "orchestrator/queue/rabbitmq/faults.test.ts";
const SCHEDULES_WITHOUT_POLL = integration("orchestrator/schedules/without-failures.test.ts");
const SCHEDULES_WITH_FAULTS = integration(
  "orchestrator/schedules/with-failures.test.ts",
  "connections fail as well",
);
const VERSION_TAG = integration("worker/pipeline/version-tag.test.ts");
const FORGED_LABELS = integration("worker/pipeline/forged-labels.test.ts", "sets reserved labels");
const WANTED_IMAGE: TestSelection = { file: "tests/unit/worker/pipeline/wanted-image.test.ts" };
const LEASE_CONFIRMATION: TestSelection = {
  file: "tests/unit/worker/control-plane/lease-confirmation.test.ts",
};
const RUNS: TestSelection = { file: "tests/unit/worker/runs/runs.test.ts" };

/** A short drill with the one kind of fault that has to show the mutation. */
const drill = (only: string, jobs: number, faults: number): DrillRun => ({
  drill: ["--jobs", String(jobs), "--faults", String(faults), "--only", only],
});

const mutated =
  (file: string, test: TestSelection | DrillRun) =>
  (...changes: readonly Change[]): readonly Mutation[] =>
    changes.map((change) => ({ ...change, file, test }));
const leasesScript = (script: string) =>
  mutated(`src/orchestrator/leases/scripts/${script}.lua`, REDIS_LEASES);
const recordsScript = (script: string) =>
  mutated(`src/orchestrator/records/scripts/${script}.lua`, REDIS_RECORDS);
const inProcessLeases = mutated("src/orchestrator/leases/in-process.ts", IN_PROCESS_LEASES);

export const MUTATIONS: readonly Mutation[] = [
  ...leasesScript("confirm")(
    {
      name: "a confirmation does not extend the claim",
      from: "  putClaim(jobId, workerId, incarnation, attempt, claim.address)\n",
      to: "",
    },
    {
      name: "a run of a cancelled job is confirmed",
      from: "if cancellation(jobId) then return -1 end\n",
      to: "",
    },
    {
      name: "an attempt that was released or fenced is confirmed",
      from: "if attempt <= done then return -1 end\n",
      to: "",
    },
    {
      name: "a run that only its worker has reported is confirmed",
      from: "  return isUnproven(jobId, attempt) and -3 or leaseTtlMs\nend",
      to: "  return leaseTtlMs\nend",
    },
  ),
  ...leasesScript("common")(
    {
      name: "a reported run gets the claim of an ended attempt back",
      from: "  if attempt <= done then return false end\n",
      to: "",
    },
    {
      name: "a reported run of a lower attempt wins",
      from: "  if claim and claim.attempt >= attempt then\n    if not isOf(claim, worker.id, worker.incarnation, attempt) then return false end\n  else\n    if attempt < last or cancellation(jobId) then return false end",
      to: "  if claim and claim.attempt == attempt then\n    if not isOf(claim, worker.id, worker.incarnation, attempt) then return false end\n  else\n    if cancellation(jobId) then return false end",
    },
    {
      name: "a reported run gets the claim although a higher attempt is known",
      from: "if attempt < last or cancellation(jobId) then return false end",
      to: "if cancellation(jobId) then return false end",
    },
    {
      name: "a reported run of a cancelled job gets an ended claim back",
      from: "if attempt < last or cancellation(jobId) then return false end",
      to: "if attempt < last then return false end",
    },
    {
      name: "ended claims are never removed from the set of their worker",
      from: "  redis.call('ZREMRANGEBYSCORE', claims, '-inf', nowMs)\n  redis.call('ZADD', claims",
      to: "  redis.call('ZADD', claims",
    },
    {
      name: "an orchestrator with a shorter lease time cuts a claim",
      from: "  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end",
      to: "  redis.call('PEXPIRE', key, ms)",
    },
    {
      name: "a loss of the data is not followed by a settle time",
      from: "if not sinceMs then sinceMs = nowMs end",
      to: "if not sinceMs then sinceMs = 0 end",
    },
    {
      name: "the settle time does not begin again after half a lease time without orchestrators",
      from: "math.ceil(leaseTtlMs / 2)",
      to: "leaseTtlMs * 10",
    },
    {
      name: "a worker is schedulable after its lease has ended",
      from: "local function isAlive(worker) return worker.leaseUntil > nowMs end",
      to: "local function isAlive(worker) return true end",
    },
    {
      name: "a worker that this orchestrator does not reach gets jobs",
      from: "worker.status == 'FREE' and isReached(orchestrator, worker)",
      to: "worker.status == 'FREE'",
    },
    {
      name: "claimed slots count as free",
      from: "  return worker.slots - redis.call('ZCOUNT', claimsKey(worker.id, worker.incarnation), '(' .. nowMs, '+inf')",
      to: "  return worker.slots",
    },
  ),
  ...leasesScript("claim")(
    {
      name: "a claim chooses a worker that an operator has paused",
      from: "isSchedulable(orchestrator, worker) and worker.id ~= excluded",
      to: "isAlive(worker) and worker.status == 'FREE' and isReached(orchestrator, worker) and worker.id ~= excluded",
    },
    {
      name: "a job that runs is claimed again",
      from: "if held then\n",
      to: "if false then\n",
    },
    {
      name: "a job that may be running is claimed during the settle time",
      from: "if nowMs < sinceMs + settleMs then return { 'none' } end\n",
      to: "",
    },
    {
      name: "the attempts that the message records are ignored",
      from: "math.max(readAttempts(jobId), attemptsEnded)",
      to: "(readAttempts(jobId))",
    },
    {
      name: "a cancelled job is claimed",
      from: "if reason then return { 'cancelled', reason, attempts } end\n",
      to: "",
    },
    {
      name: "the next claim has the number of the last attempt",
      from: "local attempt = attempts + 1",
      to: "local attempt = math.max(attempts, 1)",
    },
    {
      name: "the worker of the last attempt is not avoided",
      from: "bestOfRegions(avoided) or bestOfRegions('')",
      to: "bestOfRegions('')",
    },
  ),
  ...leasesScript("free-slots")({
    name: "slots of a worker that an operator has paused count as free",
    from: "isSchedulable(ARGV[3], worker)",
    to: "isAlive(worker) and worker.status == 'FREE' and isReached(ARGV[3], worker)",
  }),
  ...leasesScript("deregister")({
    name: "a worker that leaves loses its control",
    from: "announceChange()",
    to: "dropControl('worker:' .. worker.id)\nannounceChange()",
  }),
  ...leasesScript("touch")({
    name: "a control is never forgotten",
    from: "do dropControl(name) end",
    to: "do end",
  }),
  ...leasesScript("fence")(
    {
      name: "a run is declared lost, and its attempt can still be confirmed",
      from: "redis.call('HSET', attemptsKey(jobId), 'last', math.max(last, attempt), 'done', attempt)\n",
      to: "",
    },
    {
      name: "a run is declared lost during the settle time",
      from: "(claim or nowMs < sinceMs + tonumber(ARGV[7]))",
      to: "claim",
    },
    {
      name: "a run whose claim is alive is declared lost",
      from: "(claim or nowMs < sinceMs + tonumber(ARGV[7]))",
      to: "nowMs < sinceMs + tonumber(ARGV[7])",
    },
    {
      name: "the next attempt does not wait for the end of an earlier confirmation",
      from: "redis.call('PEXPIRE', attemptsKey(jobId), math.max(jobMemoryMs, leaseTtlMs))\nreturn claim and redis.call('PTTL', claimKey(jobId)) or 0",
      to: "return 0",
    },
  ),
  ...leasesScript("release")(
    {
      name: "a released attempt gets its claim back by a ping in flight",
      from: "'last', math.max(last, attempt), 'done', math.max(done, attempt))",
      to: "'last', math.max(last, attempt))",
    },
    {
      name: "the release of an earlier claim ends the job's present one",
      from: "if claim and not isOf(claim, workerId, incarnation, attempt) then return 0 end\n",
      to: "",
    },
    {
      name: "the number of an attempt that may have begun is used again",
      from: "(mayHaveBegun(jobId, attempt) or last ~= attempt or done >= attempt)",
      to: "(last ~= attempt or done >= attempt)",
    },
  ),
  ...leasesScript("register")(
    {
      name: "two live workers have one id",
      from: "if known and known.incarnation ~= incarnation and isAlive(known) then return 0 end\n",
      to: "",
    },
    {
      name: "two live workers have one address",
      from: "then return otherId end",
      to: "then break end",
    },
  ),
  ...leasesScript("observe")(
    {
      name: "a ping is recorded for another start of the worker",
      from: "or before.incarnation ~= ARGV[5] ",
      to: "",
    },
    {
      name: "the control of a worker that answers pings is forgotten after 90 days",
      from: "if controls[1] then keepControl('worker:' .. before.id) end\n",
      to: "",
    },
  ),
  ...leasesScript("cancel")({
    name: "a second cancellation replaces the reason of the first",
    from: ", 'NX')",
    to: ")",
  }),
  ...mutated(
    "src/orchestrator/leases/worker-table.ts",
    IN_PROCESS_LEASES,
  )({
    name: "in process: a worker that an operator has paused gets jobs",
    from: "    return isFree && this.controls.isInService(worker);",
    to: "    return isFree;",
  }),
  ...inProcessLeases(
    {
      name: "in process: a confirmation does not extend the claim",
      from: "      if (!this.#holdRun(worker, run)) return undefined;\n",
      to: "      if (this.#claimOf(run.jobId)?.attempt !== run.attempt && !this.#holdRun(worker, run)) return undefined;\n",
    },
    {
      name: "in process: a run is declared lost, and its attempt can still be confirmed",
      from: "    if (!isOver) this.#jobs.rememberAttempts(jobId, { last: Math.max(last, attempt), done: attempt });\n",
      to: "",
    },
    {
      name: "in process: a reported run of a lower attempt wins",
      from: "    if (current && current.attempt >= attempt) return false;\n    const { last, done } = this.#jobs.attemptsOf(jobId);\n    return attempt >= last && attempt > done;",
      to: "    const { done } = this.#jobs.attemptsOf(jobId);\n    return attempt > done;",
    },
    {
      name: "in process: a released attempt gets its claim back",
      from: "        done: Math.max(done, attempt),\n",
      to: "        done,\n",
    },
    {
      name: "in process: a cancelled job is claimed",
      from: '    if (reason !== undefined) return { kind: "cancelled", reason, attempts: ended };\n',
      to: "",
    },
    {
      name: "in process: claimed slots count as free",
      from: "    return worker.slots - this.#claimsOf(worker).length;",
      to: "    return worker.slots;",
    },
  ),
  ...recordsScript("finish")(
    {
      name: "a second result replaces the first",
      from: "if not get('result') then\n",
      to: "if true then\n",
    },
    {
      name: "a published result is published again",
      from: "if get('published') then return { 'published' } end\n",
      to: "",
    },
    {
      name: "two publishers publish one result",
      from: "nowMs < tonumber(get('publisherUntil') or 0)",
      to: "false",
    },
  ),
  ...recordsScript("append")({
    name: "an event that precedes the offer counts as one that follows it",
    from: "if cjson.decode(event).state ~= 'QUEUED' then set('queued', '1') end",
    to: "set('queued', '1')",
  }),
  ...recordsScript("admit")({
    name: "a message with the id of another job joins that job",
    from: "if salt and get('fingerprints') ~= ARGV[9] then",
    to: "if false then",
  }),
  ...mutated("src/orchestrator/dispatcher.ts", SCHEDULES_WITHOUT_POLL)(
    {
      name: "a hint that arrives while a ready queue is found empty is lost",
      from: "    if (!delivery) return undefined;\n    this.#hint(readyQueue);",
      to: "    if (!delivery) this.#hinted.delete(keyOf(readyQueue));\n    if (!delivery) return undefined;\n    this.#hint(readyQueue);",
    },
    {
      name: "a hint that arrives while a sweep ends is lost",
      from: "    this.#sweep = undefined;\n  }",
      to: "    await Promise.resolve();\n    this.#sweep = undefined;\n  }",
    },
  ),
  ...mutated(
    "src/orchestrator/dispatcher.ts",
    SCHEDULES_WITH_FAULTS,
  )({
    name: "two messages of one job wait for each other",
    from: "      this.#follow(held, running);",
    to: "      this.#track(\n        held,\n        running.then(() => this.#settleOrHold(held)),\n      );",
  }),
  ...mutated("src/orchestrator/result-handler.ts", SCHEDULES_WITH_FAULTS)(
    {
      name: "a message is acked before its result is confirmed",
      from: "    await this.parts.publisher.publishOnce(",
      to: "    delivery.ack();\n    await this.parts.publisher.publishOnce(",
    },
    {
      name: "a message is acked before its next attempt is confirmed",
      from: "    await this.parts.queue.offerLater(",
      to: "    delivery.ack();\n    await this.parts.queue.offerLater(",
    },
  ),
  ...mutated(
    "src/orchestrator/intake.ts",
    SCHEDULES_WITH_FAULTS,
  )({
    name: "a submitted message is acked before the job is in its ready queue",
    from: "    await this.#accept(delivery, message, jobId, admission);\n    delivery.ack();",
    to: "    delivery.ack();\n    await this.#accept(delivery, message, jobId, admission);",
  }),
  ...mutated(
    "src/orchestrator/workers/assignment.ts",
    SCHEDULES_WITHOUT_POLL,
  )({
    name: "the number of an attempt whose call may have arrived is used again",
    from: "    if (this.#isSent) return false;\n",
    to: "",
  }),
  ...mutated(
    "src/orchestrator/workers/assignment.ts",
    integration("orchestrator/dispatcher.test.ts", "not sent to its worker"),
  )({
    name: "a claim whose run was never sent outlives the job's message",
    from: "          await this.#retractIfUnsent();\n",
    to: "",
  }),
  ...mutated(
    "src/orchestrator/workers/assignment.ts",
    integration("orchestrator/workers/assignment.test.ts", "before the confirmation"),
  )({
    name: "a run that another orchestrator has fenced is lost while it is confirmed",
    from: '      if (fence.kind === "fenced") await sleep(fence.confirmedForMs, signal);\n      return fence.kind;',
    to: "      return fence.kind;",
  }),
  ...mutated(
    "src/orchestrator/dispatcher.ts",
    integration("orchestrator/dispatcher.test.ts", "with a slow broker"),
  )({
    name: "held jobs are returned without waiting for each other",
    from: "      if (isAnswered) isAnswered = await returned;",
    to: "      void returned;",
  }),
  ...mutated(
    "src/orchestrator/redis/script.ts",
    integration("orchestrator/redis/script.test.ts"),
  )({
    name: "the first calls of a script overtake each other",
    from: "      return client.eval(this.#text, keys.length, ...keys, ...args);\n    }\n    try {",
    to: "    }\n    try {",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/submissions.ts",
    integration(FAULTS, "its submissions are handled"),
  )({
    name: "a session that could not be prepared ends the handling of submissions",
    from: "    if (this.options.closing.aborted) await this.#stop();",
    to: "    await this.#stop();",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/publisher.ts",
    integration(QUEUE, "deleted queues are declared again"),
  )({
    name: "a returned message counts as confirmed",
    from: '        if (returned?.delete(id)) resolve({ kind: "unroutable" });\n        else if',
    to: "        if",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/publisher.ts",
    integration(QUEUE, "reply_to queue that is missing"),
  )({
    name: "a message that its queue rejects counts as confirmed",
    from: 'error.message === NACKED ? { kind: "nacked" }',
    to: 'error.message === NACKED ? { kind: "confirmed" }',
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/publisher.ts",
    integration(FAULTS, "aborted after it was sent"),
  )({
    name: "a publish that is aborted does not wait for its confirmation",
    from: "      return await orAbort(Promise.race([attempt, tooLate]), this.options.closing);",
    to: "      await Promise.race([tooLate, Promise.reject(error)]);\n      throw error;",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/delivery.ts",
    integration(FAULTS, "after a restart of the broker"),
  )({
    name: "a delivery on a lost channel is not revoked",
    from: '    else open.lost.addEventListener("abort", this.#revoke, { once: true });',
    to: "",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/topology.ts",
    integration(QUEUE, "in front of those"),
  )({
    name: "returned jobs lose their place",
    from: '"x-delivery-limit": DELIVERY_LIMIT, ',
    to: "",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/delivery.ts",
    integration(QUEUE, "a delivery limit drops"),
  )({
    name: "a message at its delivery limit is dropped",
    from: " >= maxDeliveries",
    to: " >= 1000",
  }),
  ...mutated(
    "src/orchestrator/queue/rabbitmq/regions.ts",
    integration(QUEUE, "regions survive any number"),
  )({
    name: "the list of regions loses a region that is read",
    from: "        } else returned.add(region);",
    to: "        } else open.channel.ack(message);",
  }),
  ...mutated("src/orchestrator/worker-manager.ts", integration("orchestrator/worker-manager.test.ts"))(
    {
      name: "without Redis a lease is confirmed for longer than the broker holds the message",
      from: "Math.min(this.parts.leaseTtlMs, heldForMs)",
      to: "this.parts.leaseTtlMs",
    },
    {
      name: "without Redis a lease is confirmed without asking the broker",
      from: "await held.delivery.heldForMs().catch((cause: unknown) => {",
      to: "await Promise.resolve(Number.POSITIVE_INFINITY).catch((cause: unknown) => {",
    },
  ),
  ...mutated("src/worker/pipeline/version-tag.ts", VERSION_TAG)(
    {
      name: "the tag is put without asking for the lease",
      from: "    const leftMs = await orAbort(confirmLease(signal), signal);",
      to: "    void confirmLease;\n    const leftMs = tagTimeoutMs * 2;",
    },
    {
      name: "the request for the tag may end after the lease",
      from: "Math.min(tagTimeoutMs, Math.floor(leftMs / 2))",
      to: "tagTimeoutMs",
    },
  ),
  ...mutated(
    "src/worker/pipeline/version-tag.ts",
    FORGED_LABELS,
  )({
    name: "an image with another job's labels gets the tag",
    from: "      refuseOtherLabels(found, labels);\n",
    to: "",
  }),
  ...mutated("src/worker/pipeline/wanted-image.ts", WANTED_IMAGE)(
    {
      name: "labels without an HMAC prove an image",
      from: " && this.#isSigned(labels);",
      to: ";",
    },
    {
      name: "an HMAC proves an image although the records know another one",
      from: "    return recorded.length === 0 && this.",
      to: "    return this.",
    },
    {
      name: "an HMAC of any version proves a job's version",
      from: "mayReuse ? (labels[VERSION_LABEL]",
      to: "mayReuse !== false ? (labels[VERSION_LABEL]",
    },
    {
      name: "an HMAC of any repository proves an image",
      from: "JSON.stringify([this.#job.ecrRepo, ",
      to: "JSON.stringify([",
    },
  ),
  ...mutated(
    "src/worker/control-plane/lease-confirmation.ts",
    LEASE_CONFIRMATION,
  )({
    name: "a refused lease counts as confirmed",
    from: '  if (!answer.granted) throw new LeaseLost("the orchestrator refused the lease: another attempt has the job");\n  return answer.leaseRemainingMs',
    to: "  return answer.leaseRemainingMs",
  }),
  ...mutated("src/worker/runs/runs.ts", RUNS)(
    {
      name: "an acknowledged attempt starts again",
      from: "    if (acknowledged >= job.attempt) {",
      to: "    if (acknowledged > job.attempt) {",
    },
    {
      name: "a run of a lower attempt starts",
      from: "    if (known && known.attempt > job.attempt) {",
      to: "    if (known && known.attempt > job.attempt + 1000) {",
    },
    {
      name: "a higher attempt does not end the lower one",
      from: "    known?.abort.abort(new LeaseLost());\n",
      to: "    void LeaseLost;\n",
    },
    {
      name: "a worker runs more jobs than it has slots",
      from: '    if (this.status() !== "FREE") {',
      to: '    if (this.status() === "DRAINING") {',
    },
    {
      name: "a call for a known attempt starts it again",
      from: "    if (known?.attempt === job.attempt) return known.outcome;\n",
      to: "",
    },
  ),
  ...mutated(
    "src/worker/pipeline/version-tag.ts",
    drill("isolated before its tag", 40, 4),
  )({
    name: "drill: the tag is put without asking for the lease",
    from: "    const leftMs = await orAbort(confirmLease(signal), signal);",
    to: "    void confirmLease;\n    const leftMs = tagTimeoutMs * 2;",
  }),
  ...mutated(
    "src/orchestrator/result-handler.ts",
    drill("orchestrator killed before a result", 40, 4),
  )({
    name: "drill: a message is acked before its result is confirmed",
    from: "    await this.parts.publisher.publishOnce(",
    to: "    delivery.ack();\n    await this.parts.publisher.publishOnce(",
  }),
  ...mutated(
    "src/orchestrator/leases/scripts/confirm.lua",
    drill("confirms its lease late", 50, 6),
  )({
    name: "drill: a confirmation does not extend the claim",
    from: "  putClaim(jobId, workerId, incarnation, attempt, claim.address)\n",
    to: "",
  }),
  ...mutated(
    "src/orchestrator/leases/scripts/common.lua",
    drill("returns to its tag after a loss", 40, 3),
  )({
    name: "drill: a reported run of a lower attempt wins",
    from: "  if claim and claim.attempt >= attempt then\n    if not isOf(claim, worker.id, worker.incarnation, attempt) then return false end\n  else\n    if attempt < last or cancellation(jobId) then return false end",
    to: "  if claim and claim.attempt == attempt then\n    if not isOf(claim, worker.id, worker.incarnation, attempt) then return false end\n  else\n    if cancellation(jobId) then return false end",
  }),
];

/** The process that runs the servers of pool.ts: `pool-host.ts <identity of the run> <socket to listen on>`. */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { isRunning } from "../machine/process-identity.ts";
import { closeProcessRecords } from "../machine/process-records.ts";
import { type OwnDockerEngine, startDockerEngine } from "./docker-engines.ts";
import { resetDockerEngine } from "./docker-reset.ts";
import { type EngineRequest, type LentEngine, requestIdHeader } from "./pool.ts";
import { type RabbitMq, type RabbitMqVersion, startRabbitMq } from "./rabbitmq.ts";

const [owner = "", socket = ""] = process.argv.slice(2);
const WATCH_INTERVAL_MS = 500;
const ASK_AGAIN_MS = 2000;

interface Engine {
  readonly kind: string;
  readonly running: OwnDockerEngine;
}

interface Loan {
  readonly engine: Engine;
  readonly borrower: string;
}

/** Those that run: each is lent, idle, or being reset. */
const engines = new Set<Engine>();
const idle = new Set<Engine>();
/** A new id each time, so that a late or repeated return cannot take an engine from its next borrower. */
const loans = new Map<string, Loan>();
const brokers = new Map<RabbitMqVersion, Promise<RabbitMq>>();

async function lendEngine({ engine, storage, borrower }: EngineRequest): Promise<LentEngine> {
  const kind = `${engine} ${storage}`;
  const known = [...idle].find((each) => each.kind === kind);
  if (known !== undefined) idle.delete(known);
  const lent = known ?? { kind, running: await startDockerEngine({ engine, storage }) };
  engines.add(lent);
  const loan = crypto.randomUUID();
  loans.set(loan, { engine: lent, borrower });
  return { loan, access: lent.running.access };
}

async function brokerOf(version: RabbitMqVersion): Promise<RabbitMq> {
  const broker = brokers.get(version) ?? startRabbitMq({ version });
  brokers.set(version, broker);
  try {
    return await broker;
  } catch (error) {
    // The next borrower tries again.
    if (brokers.get(version) === broker) brokers.delete(version);
    throw error;
  }
}

async function takeBack(loan: string): Promise<void> {
  const engine = loans.get(loan)?.engine;
  if (engine === undefined) return;
  loans.delete(loan);
  try {
    await resetDockerEngine(engine.running);
    idle.add(engine);
  } catch (error) {
    process.stdout.write(`failed to reset a Docker engine, stopping it: ${error}\n`);
    // It is not lent again. The other servers stay in use, also if it does not stop.
    await engine.running.stop().catch((failure) => process.stdout.write(`failed to stop it: ${failure}\n`));
    engines.delete(engine);
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

const answered = (body: object): Answer => ({ status: 200, text: JSON.stringify(body) });

async function answer(request: Request): Promise<Answer> {
  const { pathname } = new URL(request.url);
  const [, kind, id = ""] = pathname.split("/");
  if (request.method === "POST" && kind === "rabbitmq")
    return answered((await brokerOf(id as RabbitMqVersion)).access);
  if (request.method === "POST" && kind === "engines")
    return answered(await lendEngine((await request.json()) as EngineRequest));
  if (request.method === "DELETE" && kind === "engines") await takeBack(id);
  return answered({});
}

/** By the caller's id of the request. A caller that did not receive its answer repeats the request. */
const answers = new Map<string, Promise<Answer>>();

/** Bun closes a connection that is silent for 10 s, and a start can take longer: the caller repeats the request. */
async function answerSoon(request: Request): Promise<Response> {
  const id = request.headers.get(requestIdHeader) ?? "";
  const pending = answers.get(id) ?? answer(request).catch((error) => ({ status: 500, text: String(error) }));
  answers.set(id, pending);
  const isReady = await Promise.race([pending.then(() => true), Bun.sleep(ASK_AGAIN_MS).then(() => false)]);
  if (!isReady) return new Response(null, { status: 202 });
  const { status, text } = await pending;
  return new Response(text, { status });
}

Bun.serve({ unix: socket, fetch: answerSoon });

async function stop(): Promise<never> {
  await Promise.allSettled([
    ...[...brokers.values()].map(async (broker) => (await broker).stop()),
    ...[...engines].map(({ running }) => running.stop()),
  ]);
  await closeProcessRecords();
  await rm(dirname(socket), { recursive: true, force: true });
  process.exit(0);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
while (isRunning(owner)) {
  await Bun.sleep(WATCH_INTERVAL_MS);
  for (const [loan, { borrower }] of loans) if (!isRunning(borrower)) await takeBack(loan);
}
await stop();

/** Moments between two steps of a job, recognized by the bytes that a program sends. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { CutTraffic, Moment, TcpProxy } from "../../support/servers/tcp-proxy.ts";
import { REPOSITORY, VERSION_PREFIX } from "../jobs/job.ts";
import { REGIONS } from "../site/site.ts";

const SCRIPTS = join(import.meta.dir, "../../../src/orchestrator/leases/scripts");

/** A method frame of AMQP: basic.publish to the default exchange; then the length of the queue's name, and the name. */
const PUBLISH = Buffer.from([0, 60, 0, 40, 0, 0, 0]);

type Matches = Moment["matches"];

/** A message is published to a queue whose name begins with `prefix`. */
export function publishTo(prefix: string): Matches {
  return (chunk) => {
    for (let at = chunk.indexOf(PUBLISH); at !== -1; at = chunk.indexOf(PUBLISH, at + 1)) {
      const nameAt = at + PUBLISH.length + 1;
      if (chunk.toString("latin1", nameAt, nameAt + prefix.length) === prefix) return true;
    }
    return false;
  };
}

/** Redis is asked to run this script of the leases. */
export function callOf(script: "claim" | "release" | "fence"): Matches {
  const text = ["common", script]
    .map((name) => readFileSync(join(SCRIPTS, `${name}.lua`), "utf8"))
    .join("\n");
  const sha1 = createHash("sha1").update(text).digest("hex");
  return (chunk) => chunk.includes(sha1);
}

const requestLine = (chunk: Buffer) => chunk.toString("latin1", 0, 300);

/** The tag of a job's version is put. */
export const tagPut: Matches = (chunk) =>
  new RegExp(`^PUT /v2/[^ ]+/manifests/${VERSION_PREFIX}`).test(requestLine(chunk));

/** A worker checks that its image was pushed: its next steps are the confirmation of its lease, and the tag. */
export const imagePushed: Matches = (chunk) =>
  /^GET \/v2\/[^ ]+\/manifests\/sha256:/.test(requestLine(chunk));

/** A worker asks an orchestrator to confirm a lease. A registration has runs as well, and a region. */
export const leaseConfirmation: Matches = (chunk) =>
  /drill-[0-9a-f]{8}-\d/.test(chunk.toString("latin1")) && !REGIONS.some((region) => chunk.includes(region));

/** An orchestrator calls RunJob. */
export const runJob: Matches = (chunk) => chunk.includes(REPOSITORY);

export interface MomentCut {
  /** In ms since 1970. */
  readonly at: number;
  readonly link: TcpProxy;
}

/** Cuts the first of the links on which the moment comes. */
export async function cutAtMoment(
  links: readonly TcpProxy[],
  moment: Moment,
  traffic: CutTraffic,
  signal: AbortSignal,
): Promise<MomentCut | undefined> {
  const cuts = links.map((link) => ({ link, cut: link.cutAt(moment, traffic) }));
  const aborted = new Promise<undefined>((resolve) => {
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  const happened = cuts.map(async ({ link, cut }) => ({ at: await cut.happened, link }));
  const first = await Promise.race([aborted, ...happened]);
  for (const { cut } of cuts) cut.cancel();
  return first;
}

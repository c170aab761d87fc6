/** The LFS batch API: asks the server where to download objects. */
import { z } from "zod";
import { StepFailure } from "../job/failure.ts";
import { judge } from "./http-answer.ts";
import { failed, quoted } from "./lfs-failure.ts";
import { bytesOf, type LfsAnswer, type LfsHttp, refusalMeaning } from "./lfs-http.ts";

export interface LfsObject {
  readonly oid: string;
  readonly size: number;
  /** The name of one of its files, for messages. */
  readonly name: string;
}

export interface Link {
  readonly href: string;
  readonly headers: Headers;
  /** Whether the server has said that the link ends, and it has ended since. */
  hasEnded(): boolean;
}

const MEDIA_TYPE = "application/vnd.git-lfs+json";
const MAX_ANSWER_BYTES = 10e6;
/** Of the connection, not of the object; a download sets its own range. */
const IGNORED_HEADERS = ["host", "connection", "content-length", "transfer-encoding", "range"];
const PURPOSE = "the request for the repository's Git LFS files";

const Action = z.object({
  href: z.string(),
  header: z.record(z.string(), z.string()).nullish(),
  expires_at: z.string().nullish(),
  expires_in: z.number().nullish(),
});
const Actions = z.object({ download: Action.nullish() }).nullish();
const Answer = z.object({
  hash_algo: z.string().nullish(),
  objects: z.array(
    z.object({
      oid: z.string(),
      error: z.object({ code: z.number().nullish(), message: z.string().nullish() }).nullish(),
      actions: Actions,
      // The name in the first version of the API.
      _links: Actions,
    }),
  ),
});
type Answer = z.infer<typeof Answer>;

/** By the objects' oids. @throws StepFailure when the server does not offer one of the objects. */
export async function requestLinks(
  http: LfsHttp,
  endpoint: string,
  objects: readonly LfsObject[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Link>> {
  const requestedAtMs = Date.now();
  const sent = await http.send({
    url: `${endpoint}/objects/batch`,
    purpose: PURPOSE,
    method: "POST",
    headers: new Headers({ Accept: MEDIA_TYPE, "Content-Type": MEDIA_TYPE }),
    body: JSON.stringify({
      operation: "download",
      transfers: ["basic"],
      hash_algo: "sha256",
      objects: objects.map(({ oid, size }) => ({ oid, size })),
    }),
    signal,
  });
  if (judge(sent.response).kind !== "success") throw await http.refusal(sent);
  const answer = await answerIn(http, sent);
  const links = new Map<string, Link>();
  for (const object of objects) {
    const link = linkOf(object, answer, sent.url.host, requestedAtMs);
    http.allowedUrl(link.href, `the download of ${object.name}`);
    links.set(object.oid, link);
  }
  return links;
}

async function answerIn(http: LfsHttp, sent: LfsAnswer): Promise<Answer> {
  const { response, url } = sent;
  const unexpected = (detail: string) =>
    failed(`${url.host} does not answer as a Git LFS server: ${detail}; is lfs.url in .lfsconfig correct?`);
  const type = response.headers.get("content-type") ?? "";
  const bytes = await bytesOf(http.chunksOf(sent), MAX_ANSWER_BYTES);
  if (bytes === undefined) throw unexpected(`its answer has more than ${MAX_ANSWER_BYTES / 1e6} MB`);
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw unexpected(`expected JSON, got ${type === "" ? "an answer without a type" : quoted(type)}`);
  }
  const { data, error } = Answer.safeParse(json);
  if (error) {
    const [issue] = error.issues;
    throw unexpected(quoted(`${issue?.path.join(".")}: ${issue?.message}`));
  }
  if (data.hash_algo && data.hash_algo !== "sha256") {
    const message = `${url.host} uses the hash algorithm ${quoted(data.hash_algo)} for Git LFS; only sha256 is supported`;
    throw new StepFailure({ code: "UNSUPPORTED", step: "clone", message });
  }
  return data;
}

function linkOf({ oid, name }: LfsObject, answer: Answer, host: string, requestedAtMs: number): Link {
  const offer = answer.objects.find((object) => object.oid === oid);
  if (!offer) throw failed(`${host} did not answer for the Git LFS file ${name} (${oid})`);
  if (offer.error) throw unavailable(name, offer.error);
  const action = offer.actions?.download ?? offer._links?.download;
  if (!action) throw failed(`the Git LFS server returned no download URL for ${name}`);
  const endsAtMs = endOf(action, requestedAtMs);
  return {
    href: action.href,
    headers: headersOf(action.header ?? {}, name),
    // An end before the request is from a clock that differs from that of this machine.
    hasEnded: () => endsAtMs > requestedAtMs && Date.now() >= endsAtMs,
  };
}

function unavailable(name: string, error: NonNullable<Answer["objects"][number]["error"]>): StepFailure {
  const status = error.code ?? 0;
  const reason = quoted(error.message ?? "");
  const message = `${name} is not available from Git LFS: ${reason || "the server states no reason"} (${status})`;
  const meaning = refusalMeaning({ status, headers: new Headers() }, reason);
  return new StepFailure({ ...meaning, step: "clone", message });
}

/** In milliseconds since 1970; NaN without an end. */
function endOf({ expires_in: seconds, expires_at: date }: z.infer<typeof Action>, fromMs: number): number {
  return seconds ? fromMs + seconds * 1000 : Date.parse(date ?? "");
}

function headersOf(given: Readonly<Record<string, string>>, name: string): Headers {
  const headers = new Headers();
  for (const [key, value] of Object.entries(given)) {
    if (IGNORED_HEADERS.includes(key.toLowerCase())) continue;
    try {
      headers.set(key, value);
    } catch (cause) {
      throw failed(`the Git LFS server returned an invalid header for the download of ${name}`, false, cause);
    }
  }
  return headers;
}

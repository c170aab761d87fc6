/**
 * Policies of RabbitMQ: they change queues whatever their arguments, and AMQP does not show them. The management API
 * lists those of a virtual host to a user with the tag `management` and any permission there. (Its list of queues names
 * their policies only while RabbitMQ collects statistics.)
 */
import { unescape as unescaped } from "node:querystring";
import { z } from "zod";
import type { Logger } from "../../../shared/logging.ts";
import { maskUrlPasswords } from "../../../shared/settings/settings.ts";

const TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

const KINDS = [
  { path: "policies", title: "policy" },
  { path: "operator-policies", title: "operator policy" },
] as const;

export interface Policy {
  /** For messages, such as `policy "ttl"`. */
  readonly title: string;
  readonly kind: (typeof KINDS)[number]["path"];
  readonly pattern: string;
  readonly appliesTo: string;
  readonly priority: number;
  readonly definition: Readonly<Record<string, unknown>>;
}

const ANSWER = z.array(
  z.object({
    name: z.string(),
    pattern: z.string(),
    "apply-to": z.string(),
    priority: z.number(),
    definition: z.record(z.string(), z.unknown()),
  }),
);

export interface PoliciesOptions {
  /** `RABBITMQ_MANAGEMENT_URL` */
  readonly url: string;
  readonly vhost: string;
  readonly logger: Logger;
}

export class Policies {
  readonly #base: URL;
  readonly #headers: Readonly<Record<string, string>>;
  /** Why the last read failed. */
  #failure: string | undefined;

  constructor(private readonly options: PoliciesOptions) {
    const url = new URL(options.url);
    const login = `${unescaped(url.username)}:${unescaped(url.password)}`;
    this.#headers = { authorization: `Basic ${Buffer.from(login).toString("base64")}` };
    url.username = "";
    url.password = "";
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    this.#base = url;
  }

  /** Undefined: they are not known now; the reason is logged once. */
  async read(): Promise<readonly Policy[] | undefined> {
    try {
      const lists = await Promise.all(KINDS.map((kind) => this.#list(kind)));
      if (this.#failure !== undefined)
        this.options.logger.info(`${this.#api} can be used again; policies are checked`);
      this.#failure = undefined;
      return lists.flat();
    } catch (error) {
      const failure = describe(error);
      if (failure !== this.#failure)
        this.options.logger.warn(
          `${this.#api} cannot be used (${failure}); policies are not checked. Check RABBITMQ_MANAGEMENT_URL`,
        );
      this.#failure = failure;
      return undefined;
    }
  }

  get #api(): string {
    return `the management API of RabbitMQ at ${maskUrlPasswords(this.options.url)}`;
  }

  async #list({ path, title }: (typeof KINDS)[number]): Promise<readonly Policy[]> {
    const { vhost } = this.options;
    const response = await fetch(new URL(`api/${path}/${encodeURIComponent(vhost)}`, this.#base), {
      headers: this.#headers,
      // Another server must not get the password.
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Unusable(reasonOf(response.status, vhost));
    }
    return parsed(await boundedText(response)).map((policy) => ({
      title: `${title} "${policy.name}"`,
      kind: path,
      pattern: policy.pattern,
      appliesTo: policy["apply-to"],
      priority: policy.priority,
      definition: policy.definition,
    }));
  }
}

class Unusable extends Error {
  override readonly name = "Unusable";
}

function reasonOf(status: number, vhost: string): string {
  if (status === 401)
    return `it answered 401: the user needs the tag management, and a permission in the virtual host ${vhost}`;
  if (status === 404)
    return `it answered 404: expected the URL of the plugin rabbitmq_management, and the virtual host ${vhost}`;
  return `it answered ${status}`;
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Unusable(`its answer has more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parsed(text: string): z.infer<typeof ANSWER> {
  const answer = ANSWER.safeParse(jsonOf(text));
  if (answer.success) return answer.data;
  throw new Unusable("its answer is not a list of policies");
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `no answer within ${TIMEOUT_MS / 1000} s`;
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}

/** Of the policies of each kind that match a queue, only the one with the highest priority applies. */
export function policiesOf(
  policies: readonly Policy[],
  queue: { name: string; type: string },
): readonly Policy[] {
  return KINDS.flatMap(({ path }) => {
    const matching = policies.filter((policy) => policy.kind === path && appliesTo(policy, queue));
    return matching.toSorted((one, other) => other.priority - one.priority).slice(0, 1);
  });
}

const QUEUES_OF_TYPE: Readonly<Record<string, string>> = {
  quorum: "quorum_queues",
  classic: "classic_queues",
  stream: "streams",
};

function appliesTo(policy: Policy, { name, type }: { name: string; type: string }): boolean {
  const isOfType = ["all", "queues", QUEUES_OF_TYPE[type]].includes(policy.appliesTo);
  return isOfType && patternOf(policy)?.test(name) === true;
}

/** RabbitMQ has another syntax for a few rarely used patterns. Undefined: it cannot be evaluated here. */
export function patternOf({ pattern }: Policy): RegExp | undefined {
  try {
    return new RegExp(pattern);
  } catch {
    return undefined;
  }
}

/** Places of logs in Redis, shared by all orchestrators. */
import {
  connectInBackground,
  createQuietRedisClient,
  isReady,
  type RedisClient,
  type RedisTimeouts,
} from "../redis/client.ts";
import { RedisScript } from "../redis/script.ts";
import { RecordsUnavailable } from "./job-records.ts";
import {
  COPY_TTL_MS,
  type LogPlace,
  type LogPlaces,
  PLACE_KINDS,
  type PlacedLog,
  type TenantRun,
} from "./log-places.ts";
import logPlaceLua from "./scripts/log-place.lua" with { type: "text" };

const logPlace = new RedisScript(logPlaceLua);

export interface RedisLogPlacesOptions {
  /** See `RedisClientOptions.url`. */
  readonly url: string;
  /** With a hash tag. */
  readonly keyPrefix: string;
  readonly memoryMs: number;
  /** See `RedisClientOptions.timeouts`. */
  readonly timeouts?: RedisTimeouts;
}

export class RedisLogPlaces implements LogPlaces {
  readonly #client: RedisClient;
  readonly #prefix: string;

  constructor(private readonly options: RedisLogPlacesOptions) {
    this.#prefix = options.keyPrefix;
    // The client of the leases checks the server, and logs when it is not reachable.
    this.#client = createQuietRedisClient(options);
  }

  start(): void {
    connectInBackground(this.#client);
  }

  async note({ tenant, jobId, attempt }: TenantRun, place: LogPlace): Promise<void> {
    const text = JSON.stringify({ ...place, tenant } satisfies PlacedLog);
    const better = PLACE_KINDS.slice(PLACE_KINDS.indexOf(place.kind) + 1);
    await this.#run(jobId, attempt, [text, better.join(",")]);
  }

  async find(jobId: string): Promise<ReadonlyMap<number, PlacedLog>> {
    const fields = await this.#attempt(() => this.#client.hgetall(`${this.#prefix}log:${jobId}`));
    const places = Object.entries(fields).filter(([attempt]) => /^\d+$/.test(attempt));
    return new Map(places.map(([attempt, text]) => [Number(attempt), JSON.parse(text) as PlacedLog]));
  }

  async claim({ jobId, attempt }: TenantRun, orchestratorId: string): Promise<"granted" | "taken" | "kept"> {
    const reply = await this.#run(jobId, attempt, ["", COPY_TTL_MS, orchestratorId]);
    return reply as "granted" | "taken" | "kept";
  }

  async announce(orchestratorId: string, address: string, ttlMs: number): Promise<void> {
    await this.#attempt(() => this.#client.set(this.#addressKey(orchestratorId), address, "PX", ttlMs));
  }

  async withdraw(orchestratorId: string): Promise<void> {
    await this.#attempt(() => this.#client.del(this.#addressKey(orchestratorId)));
  }

  async addressOf(orchestratorId: string): Promise<string | undefined> {
    return (await this.#attempt(() => this.#client.get(this.#addressKey(orchestratorId)))) ?? undefined;
  }

  async close(): Promise<void> {
    this.#client.disconnect();
  }

  #addressKey(orchestratorId: string): string {
    return `${this.#prefix}log-address:${orchestratorId}`;
  }

  #run(jobId: string, attempt: number, args: readonly (string | number)[]): Promise<unknown> {
    const all = [jobId, attempt, this.options.memoryMs, ...args];
    return this.#attempt(() => logPlace.run(this.#client, this.#prefix, all));
  }

  async #attempt<T>(command: () => Promise<T>): Promise<T> {
    if (!isReady(this.#client)) throw new RecordsUnavailable("Redis is not connected");
    try {
      return await command();
    } catch (cause) {
      throw new RecordsUnavailable("a Redis command failed", { cause });
    }
  }
}

import { Redis } from "ioredis";

/** Every key of a database with its value, as text: all that a client of this Redis could read. */
export async function redisContents(url: string): Promise<string> {
  const redis = new Redis(url);
  try {
    const entries: string[] = [];
    for (const key of await redis.keys("*")) entries.push(`${key} = ${await contentOf(redis, key)}`);
    return entries.join("\n");
  } finally {
    redis.disconnect();
  }
}

async function contentOf(redis: Redis, key: string): Promise<string> {
  const type = await redis.type(key);
  switch (type) {
    case "string":
      return (await redis.get(key)) ?? "";
    case "hash":
      return JSON.stringify(await redis.hgetall(key));
    case "list":
      return JSON.stringify(await redis.lrange(key, 0, -1));
    case "set":
      return JSON.stringify(await redis.smembers(key));
    case "zset":
      return JSON.stringify(await redis.zrangebyscore(key, "-inf", "+inf", "WITHSCORES"));
    case "stream":
      return JSON.stringify(await redis.xrange(key, "-", "+"));
    default:
      return type;
  }
}

import { Redis } from "ioredis";
import ageLua from "./age.lua" with { type: "text" };

/** Makes all keys with the prefix older at once, instead of waiting: stored times and expiries move to the past. */
export async function ageRedis(url: string, keyPrefix: string, ms: number): Promise<void> {
  const client = new Redis(url);
  try {
    await client.eval(ageLua, 1, keyPrefix, ms);
  } finally {
    client.disconnect();
  }
}

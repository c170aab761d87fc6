import { expect, test } from "bun:test";
import { Followers } from "../../../../src/orchestrator/admin/followers.ts";

function entered(followers: Followers, client: string): () => void {
  const leave = followers.enter(client);
  if (typeof leave === "string") throw new Error(`refused by the limit ${leave}`);
  return leave;
}

test("each client has its limit, and all together have one", () => {
  const followers = new Followers({ perClient: 2, total: 3 });
  const leave = entered(followers, "a");
  entered(followers, "a");
  expect(followers.enter("a")).toBe("perClient");
  entered(followers, "b");
  expect(followers.enter("c")).toBe("total");
  leave();
  entered(followers, "c");
  expect(followers.enter("a")).toBe("total");
});

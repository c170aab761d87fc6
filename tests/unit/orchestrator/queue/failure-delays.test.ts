import { expect, test } from "bun:test";
import { FailureDelays } from "../../../../src/orchestrator/queue/failure-delays.ts";

const content = (body: string, messageId?: string) => ({
  body: Buffer.from(body),
  properties: { messageId },
});

test("the delay of a message grows with its failures, up to a limit, and that of another one does not", () => {
  const delays = new FailureDelays();
  const poison = content("poison", "m-1");
  const firstMs = delays.nextMs(poison);
  for (let failure = 2; failure <= 20; failure += 1) delays.nextMs(poison);
  expect(firstMs).toBeWithin(500, 1_001);
  expect(delays.nextMs(poison)).toBeWithin(150_000, 300_001);
  expect(delays.nextMs(content("poison", "m-2"))).toBeWithin(500, 1_001);
});

test("the delay of a message starts again after a success", () => {
  const delays = new FailureDelays();
  for (let failure = 1; failure <= 5; failure += 1) delays.nextMs(content("once poison"));
  delays.forget(content("once poison"));
  expect(delays.nextMs(content("once poison"))).toBeWithin(500, 1_001);
});

test("only a limited number of messages is remembered", () => {
  const delays = new FailureDelays();
  for (let failure = 1; failure <= 5; failure += 1) delays.nextMs(content("old"));
  for (let index = 0; index < 1_000; index += 1) delays.nextMs(content(`other-${index}`));
  expect(delays.nextMs(content("old"))).toBeWithin(500, 1_001);
});

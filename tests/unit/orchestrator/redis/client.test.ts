import { expect, test } from "bun:test";
import { isFromUnusableServer } from "../../../../src/orchestrator/redis/client.ts";

test.each([
  ["a command", "READONLY You can't write against a read only replica."],
  [
    "a script since Redis 7",
    "READONLY You can't write against a read only replica. script: a1b2, on @user_script:45.",
  ],
  [
    "a script before Redis 7",
    "ERR Error running script (call to f_a1b2): @user_script:45: @user_script: 45: -READONLY You can't write against a read only replica. ",
  ],
])("the refusal of %s by a demoted master is recognized", (_, message) => {
  expect(isFromUnusableServer(new Error(message))).toBeTrue();
});

test.each([
  "ERR Error running script (call to f_a1b2): @user_script:45: user_script:45: attempt to index a nil value",
  "NOSCRIPT No matching script. Please use EVAL.",
  "ERR unknown command 'READONLY '",
])("%s is another error", (message) => {
  expect(isFromUnusableServer(new Error(message))).toBeFalse();
});

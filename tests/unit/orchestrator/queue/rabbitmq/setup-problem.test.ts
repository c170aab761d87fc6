import { expect, test } from "bun:test";
import { setupProblem, vhostOf } from "../../../../../src/orchestrator/queue/rabbitmq/setup-problem.ts";

const refused = (operation: string, resource: string) =>
  `Operation failed: ${operation}; 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - access to ${resource} in vhost 'v' refused for user 'u'"`;

test.each([
  [
    refused("QueueDeclare", "queue 'jobs.build'"),
    "user u may not configure queue jobs.build in virtual host v",
  ],
  [
    refused("ExchangeDeclare", "exchange 'jobs.events'"),
    "user u may not configure exchange jobs.events in virtual host v",
  ],
  [refused("QueueBind", "queue 'jobs.a'"), "user u may not write to queue jobs.a in virtual host v"],
  [refused("QueueBind", "exchange 'jobs.a'"), "user u may not read from exchange jobs.a in virtual host v"],
  [
    refused("BasicConsume", "queue 'jobs.build'"),
    "user u may not read from queue jobs.build in virtual host v",
  ],
  [
    `Operation failed: QueueDeclare; 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - configure access to queue 'q' in vhost 'v' refused for user 'u'"`,
    "user u may not configure queue q in virtual host v",
  ],
  [
    `Operation failed: QueueDeclare; 406 (PRECONDITION-FAILED) with message "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost 'v' (3) is reached"`,
    "cannot declare queue 'q': queue limit in vhost 'v' (3) is reached: raise it",
  ],
  [
    `Connection closed: 530 (NOT-ALLOWED) with message "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (2)"`,
    "number of channels opened for user 'u' has reached the maximum allowed user limit of (2): raise it",
  ],
  [
    `Handshake terminated by server: 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."`,
    "it refuses the user or the password of RABBITMQ_URL",
  ],
  [
    "Expected ConnectionOpenOk; got <ConnectionClose channel:0>",
    "it refuses virtual host my/vhost: create it",
  ],
])("%s", (message, problem) => {
  expect(setupProblem(new Error(message), vhostOf("amqp://host/my%2Fvhost"))).toStartWith(problem);
});

test("a connection that is lost is not a problem of the set-up", () => {
  expect(setupProblem(new Error("Socket closed abruptly during opening handshake"), "/")).toBeUndefined();
});

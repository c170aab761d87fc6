/** Recognizes refusals that a change of the broker's set-up ends, and nothing else: says what is wrong and what to do. */

import { unescape as unescaped } from "node:querystring";

/** All nodes of a URL list are of one cluster, and have the same virtual hosts. */
export function vhostOf(url: string): string {
  return unescaped(new URL(url).pathname.slice(1)) || "/";
}

/** The right that an operation needs: RabbitMQ 3.10 does not name it. */
const RIGHTS: readonly (readonly [operation: RegExp, resource: "queue" | "exchange", right: string])[] = [
  [/QueueBind/, "queue", "write to"],
  [/QueueBind|BasicConsume|BasicGet/, "exchange", "read from"],
  [/BasicConsume|BasicGet/, "queue", "read from"],
  [/BasicPublish/, "exchange", "write to"],
  [/Declare|Delete/, "queue", "configure"],
  [/Declare|Delete/, "exchange", "configure"],
];
const ACCESS_REFUSED =
  /ACCESS_REFUSED - (?:\w+ )?access to (queue|exchange) '([^']*)' in vhost '([^']*)' refused for user '([^']*)'/;
const LIMIT = /(?:NOT_ALLOWED|PRECONDITION_FAILED) - ([^"]*\blimit\b[^"]*)/;

/** Undefined for any other error, such as a connection that was lost. */
export function setupProblem(error: Error, vhost: string): string | undefined {
  const { message } = error;
  const [, resource, name, inVhost, user] = ACCESS_REFUSED.exec(message) ?? [];
  if (resource !== undefined)
    return `user ${user} may not ${rightOf(message, resource)} ${resource} ${name} in virtual host ${inVhost}: grant it the permissions that docs/many-machines.md lists, with rabbitmqctl set_permissions`;
  const limit = LIMIT.exec(message)?.[1];
  if (limit !== undefined)
    return `${limit}: raise it with rabbitmqctl set_vhost_limits, set_user_limits or channel_max`;
  if (/Login was refused/.test(message))
    return "it refuses the user or the password of RABBITMQ_URL; special characters in them are written percent-encoded";
  // The client library drops the broker's text.
  if (/Expected ConnectionOpenOk; got <ConnectionClose/.test(message))
    return `it refuses virtual host ${vhost}: create it with rabbitmqctl add_vhost, give the user a permission in it with rabbitmqctl set_permissions, or raise its limit of connections`;
  return undefined;
}

function rightOf(message: string, resource: string): string {
  const known = RIGHTS.find(([operation, kind]) => kind === resource && operation.test(message));
  return known?.[2] ?? "use";
}

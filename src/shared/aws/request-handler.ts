import { FetchHttpHandler } from "@smithy/fetch-http-handler";

/**
 * Sends the requests of the AWS SDK with `fetch`, which uses the proxies of the environment; the SDK's default handler
 * uses none. Metadata services of instances and containers are always asked directly, by other parts of the SDK.
 */
export function awsRequestHandler(requestTimeoutMs: number): FetchHttpHandler {
  return new FetchHttpHandler({ requestTimeout: requestTimeoutMs, keepAlive: true });
}

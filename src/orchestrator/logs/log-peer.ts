/** gRPC calls to another orchestrator, for the logs in its folder. */
import { clientOptions, DEDICATED_CONNECTION, streamed, untilConnected } from "../../shared/rpc/call.ts";
import { OrchestratorServiceClient } from "../../shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { channelSecurity, type TlsFiles } from "../../shared/rpc/tls.ts";
import type { LogKey } from "./log-store.ts";

/** On a dedicated connection: a reader can be arbitrarily slow. @throws RpcError: NOT_FOUND if it is not there */
export async function* readPeerLog(
  address: string,
  tls: TlsFiles | undefined,
  { tenant, jobId, attempt }: LogKey,
  afterSeq: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { credentials, options } = channelSecurity(address, tls);
  const client = new OrchestratorServiceClient(address, credentials, {
    ...clientOptions(address),
    ...options,
    ...DEDICATED_CONNECTION,
  });
  try {
    await untilConnected(client, address);
    if (signal.aborted) return;
    const request = { run: { jobId, attempt }, incarnation: "", tenant, afterSeq, pastOnly: true };
    for await (const { entries } of streamed(client.readLog(request), signal)) yield entries;
  } finally {
    client.close();
  }
}

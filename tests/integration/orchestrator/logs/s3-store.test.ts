/** Logs in a real server with the protocol of S3, and what its faults and wrong settings do. */
import { setDefaultTimeout } from "bun:test";
import { S3LogStore } from "../../../../src/orchestrator/logs/s3-store.ts";
import { useAwsEnvironment } from "../../../support/machine/aws-environment.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { startS3Server } from "../../../support/servers/versitygw.ts";
import { logStoreContract } from "./log-store-contract.ts";

setDefaultTimeout(60_000);

inFullCheck().describe("S3", () => {
  logStoreContract("a bucket", async () => {
    const server = await startS3Server();
    const restore = useAwsEnvironment(server.environment());
    return {
      store: new S3LogStore({ bucket: server.bucket, prefix: "logs" }),
      async stop() {
        restore();
        await server.stop();
      },
    };
  });
});

import { InProcessLeases } from "../../../../src/orchestrator/leases/in-process.ts";
import { describeLeasesContract } from "./leases-contract.ts";

describeLeasesContract("in process", async (times) => {
  const leases = new InProcessLeases(times);
  leases.start();
  return { open: async () => leases, remove: () => leases.close() };
});

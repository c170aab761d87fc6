import { join } from "node:path";
import { openEmbeddedDatabase } from "../../../../src/orchestrator/embedded-database.ts";
import { SqliteJobRecords } from "../../../../src/orchestrator/records/sqlite.ts";
import { SqliteLogPlaces } from "../../../../src/orchestrator/records/sqlite-log-places.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { describeLogPlacesContract, MEMORY_MS } from "./log-places-contract.ts";

describeLogPlacesContract("SQLite", async () => {
  const folder = await makeTempDir("log-places");
  const database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  const records = new SqliteJobRecords({ database, jobMemoryMs: MEMORY_MS / 2 });
  records.start();
  return {
    records,
    open: async (memoryMs) => new SqliteLogPlaces({ database, memoryMs }),
    async advance(ms) {
      database.run("UPDATE job_records SET expires_at = expires_at - ?", [ms]);
      database.run("UPDATE log_places SET expires_at = expires_at - ?", [ms]);
    },
    async remove() {
      database.close();
      await folder.remove();
    },
  };
});

import { join } from "node:path";
import { openEmbeddedDatabase } from "../../../../src/orchestrator/embedded-database.ts";
import { SqliteLogPlaces } from "../../../../src/orchestrator/records/sqlite-log-places.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { describeLogPlacesContract } from "./log-places-contract.ts";

describeLogPlacesContract("SQLite", async () => {
  const folder = await makeTempDir("log-places");
  const database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
  return {
    open: async (memoryMs) => new SqliteLogPlaces({ database, memoryMs }),
    async advance(ms) {
      database.run("UPDATE log_places SET expires_at = expires_at - ?", [ms]);
    },
    async remove() {
      database.close();
      await folder.remove();
    },
  };
});

import { describeBuilds } from "./builds.ts";

await describeBuilds({ engine: "20.10", kind: "local" });

import { describeBuilds } from "./builds.ts";

await describeBuilds({ engine: "26.1", storage: "overlay2", kind: "local" });

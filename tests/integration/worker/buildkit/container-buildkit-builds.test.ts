import { describeBuilds } from "./builds.ts";

await describeBuilds({ engine: "26.1", buildKit: "container", kind: "direct" });

import { describeBaseImages } from "./base-images.ts";

await describeBaseImages({ engine: "26.1" });

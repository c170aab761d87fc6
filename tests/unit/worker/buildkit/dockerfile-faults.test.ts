import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { blamingDockerfile } from "../../../../src/worker/buildkit/dockerfile-faults.ts";
import { StepFailure, type StepFailureDetails } from "../../../../src/worker/job/failure.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let dir: TempDir;
beforeAll(async () => {
  dir = await makeTempDir("dockerfiles");
});
afterAll(() => dir.remove());

const LOST: StepFailureDetails = { code: "INTERNAL", step: "build", message: "lost it", retryable: true };
const FAILED: StepFailureDetails = { code: "BUILD_FAILED", step: "build", message: "it failed" };

async function blamed(content: string | Uint8Array, details: StepFailureDetails) {
  const path = join(dir.path, crypto.randomUUID());
  await Bun.write(path, content);
  return (await blamingDockerfile(new StepFailure(details), path)).failure;
}

const utf16 = (text: string) => Buffer.from(text, "utf16le");

test.each([
  ["UTF-16 with a byte order mark", utf16("\ufeffFROM scratch\n"), "is encoded in UTF-16"],
  ["big-endian UTF-16", utf16("\ufeffFROM scratch\n").swap16(), "is encoded in UTF-16"],
  ["UTF-16 without a mark", utf16("FROM scratch\n"), "is encoded in UTF-16"],
  ["one long line", `FROM scratch\n#${"x".repeat(70_000)}\n`, "has a line of 70001 bytes"],
  ["a long line at the end", "x".repeat(70_000), "has a line of 70000 bytes"],
])("a Dockerfile of %s is the fault of the job, whatever docker reports", async (_, content, fault) => {
  for (const details of [LOST, FAILED]) {
    const failure = await blamed(content, details);
    expect(failure).toMatchObject({ code: "BUILD_FAILED", step: "build", retryable: false });
    expect(failure.message).toStartWith(`the Dockerfile ${fault}`);
    expect(failure.message.endsWith(`: ${details.message}`)).toBe(details === FAILED);
  }
});

test("a Dockerfile that is too large for this BuildKit is named by docker's own message, and by nothing else", async () => {
  const message = "ResourceExhausted: grpc: received message larger than max (8162938 vs. 4194304)";
  expect((await blamed("#\n", { ...FAILED, message })).message).toBe(
    `the Dockerfile has 2 bytes, too many for this BuildKit: ${message}`,
  );
  // A BuildKit without that limit reads it.
  expect((await blamed("#\n".repeat(9_000_000), FAILED)).message).toBe(FAILED.message);
});

test("a Dockerfile without instructions is described as such", async () => {
  for (const prefix of ["", "failed to create LLB definition: "]) {
    const failure = await blamed("#\n", { ...FAILED, message: `${prefix}file with no instructions` });
    expect(failure.message).toStartWith("the Dockerfile has only comments and empty lines: ");
  }
});

test.each([
  ["contains NUL bytes", "FROM scratch\nCOPY x\0 /\n"],
  ["is not valid UTF-8", Buffer.from("FROM scratch\nLABEL a=ä\n", "latin1")],
] as const)("that a Dockerfile %s is only added to docker's message", async (fault, content) => {
  expect(await blamed(content, LOST)).toMatchObject({
    code: "INTERNAL",
    retryable: true,
    message: `lost it (the Dockerfile ${fault})`,
  });
});

test.each([
  ["another fault", FAILED, "FROM scratch\n# ü\n"],
  [
    "the end of a step",
    { ...FAILED, message: 'process "x" did not complete successfully: exit code: 1' },
    "\xff",
  ],
  ["a full disk", { ...FAILED, code: "DISK_FULL" as const, retryable: true }, "\xff"],
] as const)("%s is not attributed to the Dockerfile", async (_, details, content) => {
  expect((await blamed(Buffer.from(content, "latin1").subarray(0, 13), details)).message).toBe(
    details.message,
  );
});

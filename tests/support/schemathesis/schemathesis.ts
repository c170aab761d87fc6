/** Schemathesis sends requests that an OpenAPI document allows or forbids, and compares the answers with the document. */
import { join } from "node:path";
import { ADMIN_TOKEN } from "../blacktree/admin-api.ts";
import { cachedFolder, testCacheFolder } from "../machine/cached-folder.ts";
import { run } from "../machine/processes.ts";

const REQUIREMENTS = join(import.meta.dir, "requirements.txt");
const HOOKS = join(import.meta.dir, "hooks.py");

/** Python with schemathesis and the other packages of requirements.txt, installed once for all checkouts. */
async function pythonOfTests(): Promise<string> {
  const requirements = await Bun.file(REQUIREMENTS).text();
  const hash = new Bun.CryptoHasher("sha256").update(requirements).digest("hex").slice(0, 12);
  const folder = join(testCacheFolder(), `schemathesis-${hash}`);
  const proof = "complete";
  await cachedFolder(folder, proof, async (unfinished) => {
    await run(["python3", "-m", "venv", unfinished], { timeoutMs: 300_000 });
    const pip = [join(unfinished, "bin/python"), "-m", "pip", "--disable-pip-version-check"];
    await run([...pip, "install", "--quiet", "--no-deps", "--requirement", REQUIREMENTS], {
      timeoutMs: 300_000,
    });
    await Bun.write(join(unfinished, proof), "");
  });
  return join(folder, "bin/python");
}

/** Throws with the errors of a document that is not valid OpenAPI. */
export async function validateOpenApi(documentFile: string): Promise<void> {
  await run([await pythonOfTests(), "-m", "openapi_spec_validator", documentFile], { timeoutMs: 60_000 });
}

export interface ApiFuzzing {
  readonly apiUrl: string;
  readonly documentFile: string;
  /** For the files that the run writes. */
  readonly folder: string;
  /** Ids that exist, by the first part of their path below /api/v1. */
  readonly knownIds: Readonly<Record<string, readonly string[]>>;
  /** A valid cursor of the list of jobs. */
  readonly cursor: string;
  /** Of each operation, in the phase `fuzzing`. */
  readonly maxExamples: number;
  readonly phases: readonly ("examples" | "coverage" | "fuzzing")[];
  readonly timeoutMs: number;
}

export interface FuzzingReport {
  /** Empty if nothing was found. */
  readonly findings: string;
  /** Number of answers by `operation method status`. */
  readonly statuses: Readonly<Record<string, number>>;
}

/** Checks of schemathesis that cannot pass here, with the test that has the case instead. */
const EXCLUDED_CHECKS = [
  // Sends wrong tokens until the client has to wait (tests/unit/orchestrator/admin/openapi-document.test.ts).
  "ignored_auth",
];

export async function fuzzApi(fuzzing: ApiFuzzing): Promise<FuzzingReport> {
  const statusesFile = join(fuzzing.folder, "statuses.json");
  const { exitCode, stdout, stderr } = await run(
    [
      await pythonOfTests(),
      ...["-m", "schemathesis.cli", "run", fuzzing.documentFile],
      ...["--url", fuzzing.apiUrl, "--header", `Authorization: Bearer ${ADMIN_TOKEN}`],
      ...["--phases", fuzzing.phases.join(","), "--max-examples", String(fuzzing.maxExamples)],
      ...["--exclude-checks", EXCLUDED_CHECKS.join(",")],
      // The same requests in each run, so that a finding can be repeated.
      "--generation-deterministic",
      ...["--generation-with-security-parameters", "false", "--suppress-health-check", "all"],
      ...["--continue-on-failure", "--request-timeout", "30", "--no-color", "--warnings", "off"],
    ],
    {
      cwd: fuzzing.folder,
      env: {
        SCHEMATHESIS_HOOKS: "hooks",
        PYTHONPATH: join(HOOKS, ".."),
        PYTHONDONTWRITEBYTECODE: "1",
        KNOWN_IDS: JSON.stringify(fuzzing.knownIds),
        CURSOR: fuzzing.cursor,
        STATUSES_FILE: statusesFile,
      },
      mayFail: true,
      timeoutMs: fuzzing.timeoutMs,
    },
  );
  const statuses = (await Bun.file(statusesFile).json()) as FuzzingReport["statuses"];
  return { findings: exitCode === 0 ? "" : `${stdout}${stderr}`, statuses };
}

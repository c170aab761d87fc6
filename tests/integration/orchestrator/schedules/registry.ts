/** A registry that stores only tags, and the timeout rule of the request that puts one. */
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import type { Manifest, RegistryClient } from "../../../../src/worker/registry/client.ts";
import type { Store } from "./calls.ts";

export interface PutTag {
  readonly tag: string;
  readonly digest: string;
}

export class Registry {
  /** Digest by tag. */
  readonly tags = new Map<string, string>();

  constructor(
    private readonly store: Store,
    private readonly onPut: (put: PutTag) => void,
  ) {}

  /** The client of one process: the part that the version's tag needs. */
  client(): RegistryClient {
    const client = {
      getManifest: async (_: string, reference: string) => {
        const digest = await this.store.call(async () => this.tags.get(reference), { maxDelayMs: 4000 });
        return digest === undefined ? undefined : manifestOf(digest);
      },
      putManifest: async (_: string, tag: string, { digest }: Manifest, timeoutMs: number) => {
        const put = async () => {
          this.tags.set(tag, digest);
          this.onPut({ tag, digest });
        };
        const lost = () =>
          new StepFailure({ code: "PUSH_FAILED", step: "tag", message: "timed out", retryable: true });
        await this.store.call(put, { maxDelayMs: timeoutMs - 1, lost });
      },
    };
    return client as unknown as RegistryClient;
  }
}

export function manifestOf(digest: string): Manifest {
  return { digest, mediaType: "application/vnd.oci.image.manifest.v1+json", bytes: new Uint8Array() };
}

/**
 * The image that a job asks for, and whether an existing image is that one. Labels alone prove nothing: a build can write
 * any label. Only what this installation recorded itself counts: the orchestrator's records, which name the digest, and
 * the HMAC label of a BLACKTREE_REUSE_KEY, which outlasts them.
 *
 * The HMAC cannot cover the digest, since BuildKit writes it into the image before the digest exists. It is still not
 * transferable to another image by a build: a run whose image has other labels than its job's puts no tag
 * (refuseOtherLabels in version-tag.ts).
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { PipelineJob } from "../job/job.ts";
import { hasLabels, type InputLabels, inputsHash, type ReservedLabels } from "./image-labels.ts";

const VERSION_LABEL = "io.blacktree.version";
const HMAC_LABEL = "io.blacktree.hmac";

export interface ExistingImage {
  readonly digest: string;
  readonly labels: Readonly<Record<string, string>>;
}

type Requester = Pick<
  PipelineJob,
  "tenant" | "ecrRepo" | "deploymentVersion" | "mayReuse" | "knownImages" | "versionImages"
>;

export class WantedImage {
  /** SHA-256 of the tenant and everything that the image is built from. */
  readonly inputsHash: string;
  /** Every label is set on every image, also when empty: a base image may have labels with these names. */
  readonly labels: ReservedLabels;
  readonly #inputs: InputLabels;
  readonly #job: Requester;
  readonly #keys: readonly Buffer[];

  /** The first key signs, all of them verify. */
  constructor(job: Requester, inputs: InputLabels, keys: readonly Buffer[]) {
    this.#job = job;
    this.#keys = keys;
    this.#inputs = inputs;
    this.inputsHash = inputsHash(inputs, job.tenant);
    const [key] = keys;
    this.labels = {
      ...inputs,
      [VERSION_LABEL]: job.deploymentVersion,
      [HMAC_LABEL]: key ? this.#hmac(key, job.deploymentVersion) : "",
    };
  }

  /** Whether this installation built the image from the job's inputs. */
  isProven({ digest, labels }: ExistingImage): boolean {
    const { knownImages = [], versionImages = [] } = this.#job;
    const ofInputs = ({ inputs }: { readonly inputs: string }) => inputs === this.inputsHash;
    const recorded = versionImages.filter(ofInputs);
    if ([...recorded, ...knownImages.filter(ofInputs)].some((known) => known.digest === digest)) return true;
    // If the records know the version's image, another one can only have copied its labels.
    return recorded.length === 0 && this.seemsToBe(labels) && this.#isSigned(labels);
  }

  /** Whether the labels state the job's inputs. Anyone may have written them. */
  seemsToBe(labels: ExistingImage["labels"]): boolean {
    return hasLabels(labels, this.#inputs);
  }

  /** Whether a build of the job may result in exactly this image. */
  mayBecome({ labels }: ExistingImage): boolean {
    return hasLabels(labels, this.labels);
  }

  #isSigned(labels: ExistingImage["labels"]): boolean {
    const { mayReuse, deploymentVersion } = this.#job;
    const version = mayReuse ? (labels[VERSION_LABEL] ?? "") : deploymentVersion;
    const given = Buffer.from(labels[HMAC_LABEL] ?? "");
    return this.#keys.some((key) => {
      const expected = Buffer.from(this.#hmac(key, version));
      return given.length === expected.length && timingSafeEqual(given, expected);
    });
  }

  #hmac(key: Buffer, version: string): string {
    const signed = JSON.stringify([this.#job.ecrRepo, version, this.inputsHash]);
    return createHmac("sha256", key).update(signed).digest("hex");
  }
}

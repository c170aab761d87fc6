import type { CaseName, ScriptCase } from "./cases.ts";
import type { Size } from "./repositories.ts";

/** One run from the build request to the image in the registry, with the times of its steps; they may overlap. */
export interface Measurement {
  readonly totalMs: number;
  readonly stepsMs: Readonly<Record<string, number>>;
}

export type Sample = { readonly size: Size; readonly round: number; readonly measured: Measurement } & (
  | { readonly side: "script"; readonly case: ScriptCase }
  | { readonly side: "blacktree"; readonly case: CaseName }
);

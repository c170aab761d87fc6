import type { CaseName, ScriptCase } from "./cases.ts";
import type { Size } from "./repositories.ts";

/** One way from "build this" to "it is in the registry", with what its steps took; they may overlap. */
export interface Measurement {
  readonly totalMs: number;
  readonly stepsMs: Readonly<Record<string, number>>;
}

export type Sample = { readonly size: Size; readonly round: number; readonly measured: Measurement } & (
  | { readonly side: "script"; readonly case: ScriptCase }
  | { readonly side: "blacktree"; readonly case: CaseName }
);

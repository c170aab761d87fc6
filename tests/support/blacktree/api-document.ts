import { createAdminApp } from "../../../src/orchestrator/admin/app.ts";
import { openApiDocument } from "../../../src/orchestrator/admin/openapi-document.ts";
import type { AdminParts } from "../../../src/orchestrator/admin/parts.ts";

/** The parts of a JSON schema that the document has. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly format?: string;
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | false;
}

type Content = Readonly<Record<string, { readonly schema: Schema }>>;

export interface Answer {
  readonly $ref?: string;
  readonly description?: string;
  readonly content?: Content;
}

export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  /** Empty for a route without a token. */
  readonly security?: readonly object[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: "path" | "query" | "header";
    readonly required?: boolean;
    readonly description?: string;
    readonly schema: Schema;
  }[];
  readonly requestBody?: {
    readonly description?: string;
    readonly required?: boolean;
    readonly content: Content;
  };
  readonly responses: Readonly<Record<string, Answer>>;
}

export interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly responses: Readonly<Record<string, Answer>>;
  };
}

/** The OpenAPI document of the sources as they are now: it depends on the routes alone. */
export async function apiDocument(): Promise<ApiDocument> {
  const parts = { listen: { host: "127.0.0.1", port: 8080 }, hosts: [], names: {} } as unknown as AdminParts;
  return (await openApiDocument(createAdminApp(parts))) as unknown as ApiDocument;
}

/** Compares answers of the admin API with its OpenAPI document. */
import { z } from "zod";
import { type Answer, apiDocument, type Operation, type Schema } from "./api-document.ts";

const document = await apiDocument();

const $defs = JSON.parse(
  JSON.stringify(document.components.schemas).replaceAll("#/components/schemas/", "#/$defs/"),
) as Record<string, Schema>;

const checks = new Map<Schema, z.ZodType>();

function checkOf(schema: Schema): z.ZodType {
  const known = checks.get(schema);
  if (known) return known;
  const local = JSON.parse(JSON.stringify(schema).replaceAll("#/components/schemas/", "#/$defs/"));
  const check = z.fromJSONSchema({ ...local, $defs });
  checks.set(schema, check);
  return check;
}

const templates = Object.entries(document.paths).map(([path, methods]) => ({
  pattern: new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`),
  methods,
}));

function operationOf(method: string, path: string): Operation | undefined {
  const name = method === "HEAD" ? "get" : method.toLowerCase();
  return templates.find(({ pattern }) => pattern.test(path))?.methods[name];
}

/** Throws unless the document has this answer; requests that the document does not have are not checked. */
export async function expectConforming(method: string, path: string, answer: Response): Promise<void> {
  const operation = operationOf(method, path.split("?")[0] ?? "");
  if (!operation) return;
  const request = `${operation.operationId}: ${answer.status}`;
  const documented = operation.responses[answer.status];
  if (!documented) throw new Error(`${request} is not in the OpenAPI document`);
  const { content = {} } = sharedOf(documented);
  const type = (answer.headers.get("content-type") ?? "none").split(";")[0] ?? "";
  const schema = content[type]?.schema;
  if (!schema) throw new Error(`${request} has the content type ${type}; expected ${Object.keys(content)}`);
  if (method === "HEAD" || !type.endsWith("json")) return;
  const { error } = checkOf(schema).safeParse(await answer.clone().json());
  if (error) throw new Error(`${request} does not conform to the OpenAPI document: ${error.message}`);
}

const sharedOf = (answer: Answer): Answer =>
  answer.$ref === undefined
    ? answer
    : (document.components.responses[answer.$ref.split("/").at(-1) ?? ""] ?? {});

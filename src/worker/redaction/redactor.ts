/** Masks secrets in text that leaves the process: log lines and failure messages. */

import { eventLoopTurn } from "../../shared/event-loop.ts";
import { type SecretForm, secretForms } from "./encodings.ts";
import { RedactedLines } from "./redacted-lines.ts";
import { SecretIndex } from "./secret-index.ts";

export class Redactor {
  readonly #secrets = new SecretIndex();

  add(secret: string | undefined): void {
    for (const forms of secretForms(secret ?? "")) this.#addForms(forms);
  }

  /** For secrets of any number and size: other work of the process continues meanwhile. */
  async addAll(secrets: readonly string[]): Promise<void> {
    for (const secret of secrets) {
      for (const forms of secretForms(secret)) {
        this.#addForms(forms);
        await eventLoopTurn();
      }
    }
  }

  #addForms(forms: readonly SecretForm[]): void {
    for (const form of forms) this.#secrets.add(form);
  }

  /** For one complete text. Streams go through `lines`. */
  clean(text: string): string {
    const cleaned: string[] = [];
    const lines = this.lines((line) => cleaned.push(line));
    for (const line of text.split("\n")) lines.add(line);
    lines.end();
    return cleaned.join("\n");
  }

  /** A secret that is added later is masked in the lines after that. */
  lines(onLine: (line: string) => void): RedactedLines {
    return new RedactedLines(this.#secrets, onLine);
  }
}

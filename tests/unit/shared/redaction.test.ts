import { describe, expect, test } from "bun:test";
import { Redactor } from "../../../src/shared/redaction.ts";

function redactor(...secrets: string[]): Redactor {
  const made = new Redactor();
  for (const secret of secrets) made.add(secret);
  return made;
}

describe("Redactor", () => {
  test("masks every occurrence of every secret", () => {
    expect(redactor("swordfish", "open sesame").clean("swordfish, open sesame, swordfish")).toBe(
      "***, ***, ***",
    );
  });

  test("masks a secret's encodings", () => {
    const secret = 'p"ss/w+rd&é';
    const clean = (text: string) => redactor(secret).clean(text);
    expect(clean(`x=${encodeURIComponent(secret)}`)).toBe("x=***");
    expect(clean(JSON.stringify({ password: secret }))).toBe('{"password":"***"}');
  });

  test("masks base64 of the secret, whatever user name stands before it", () => {
    const secret = "a-registry-password-0123";
    for (const user of ["", "A:", "AW:", "AWS:", "x-access-token:"]) {
      const encoded = Buffer.from(`${user}${secret}`).toString("base64");
      expect(redactor(secret).clean(`Basic ${encoded}.`)).toBe("Basic ***.");
      expect(redactor(secret).clean(Buffer.from(`${user}${secret}\n`).toString("base64url"))).toBe("***");
    }
  });

  test("masks a secret of several lines line by line", () => {
    expect(redactor("first line\nsecond line").clean("> second line <")).toBe("> *** <");
  });

  test("masks the longer of two secrets that begin alike", () => {
    expect(redactor("token", "token-and-more").clean("token-and-more")).toBe("***");
  });

  test("treats a secret's characters as characters", () => {
    expect(redactor("a.c(d").clean("abc(d a.c(d")).toBe("abc(d ***");
  });

  test("masks user and password in URLs that nobody registered", () => {
    expect(redactor().clean("at https://me:secret@example.com/x and http://me@h")).toBe(
      "at https://***@example.com/x and http://***@h",
    );
    expect(redactor().clean("https://example.com/@scope/x")).toBe("https://example.com/@scope/x");
  });

  test("leaves text alone when a secret is missing, empty or too short to hide", () => {
    const made = redactor("", "abc");
    made.add(undefined);
    expect(made.clean("abc is not hidden")).toBe("abc is not hidden");
  });
});

import { describe, expect, test } from "bun:test";
import { Redactor } from "../../../../src/worker/redaction/redactor.ts";

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

  test("masks base64 of the secret after any user name", () => {
    const secret = "a-registry-password-0123";
    for (const user of ["", "A:", "AW:", "AWS:", "x-access-token:"]) {
      const encoded = Buffer.from(`${user}${secret}`).toString("base64");
      expect(redactor(secret).clean(`Basic ${encoded}.`)).toBe("Basic ***.");
      expect(redactor(secret).clean(Buffer.from(`${user}${secret}\n`).toString("base64url"))).toBe("***");
    }
  });

  test.each([
    ["percent-encoded by bytes", "%73%65%63%72%65%74%2D%77%6F%72%64%21"],
    ["percent-encoded in lower case", "secret-word%21"],
    ["hex", "7365637265742d776f726421"],
    ["hex in upper case", "7365637265742D776F726421"],
    ["quoted as printf %q does", "secret-word\\!"],
    ["coloured", "secret\u001b[1m-word!"],
  ])("masks a secret %s", (_, printed) => {
    expect(redactor("secret-word!").clean(`<${printed}>`)).toBe("<***>");
  });

  test("masks a secret of several lines line by line", () => {
    expect(redactor("first line\nsecond line").clean("> second line <")).toBe("> *** <");
    expect(redactor("first line\ntrue\n4 more").clean("first line\ntrue\n4 more\ntrue")).toBe(
      "***\n***\n***\ntrue",
    );
  });

  test("masks a secret that a program has wrapped over several lines", () => {
    const secret = "0123456789 and so on, up to the end";
    const wrapped = Buffer.from(`user:${secret}`).toString("base64").replaceAll(/.{16}/g, "$&\n");
    expect(redactor(secret).clean(`begin\n${wrapped}\nend`)).toBe("begin\n***\n***\n***\n***\nend");
  });

  test("does not join several lines to find a short secret", () => {
    expect(redactor("1111").clean("1\n1\n1\n1")).toBe("1\n1\n1\n1");
  });

  test("removes a terminal's control characters", () => {
    expect(redactor().clean("\u001b]0;title\u0007a\u001b[31mred\u001b[0m\tb\u0000")).toBe("ared\tb");
  });

  test("masks the longer of two secrets with the same beginning", () => {
    expect(redactor("token", "token-and-more").clean("token-and-more")).toBe("***");
  });

  test("treats special characters in a secret as literal", () => {
    expect(redactor("a.c(d").clean("abc(d a.c(d")).toBe("abc(d ***");
  });

  test("masks user and password in URLs that were not registered as secrets", () => {
    expect(redactor().clean("at https://me:secret@example.com/x and http://me@h")).toBe(
      "at https://***@example.com/x and http://***@h",
    );
    expect(redactor().clean("amqp://me:p@ss@example.com and ://no@url")).toBe(
      "amqp://***@example.com and ://no@url",
    );
    expect(redactor().clean("https://example.com/@scope/x")).toBe("https://example.com/@scope/x");
  });

  test("leaves text alone when a secret is missing, empty or too short to hide", () => {
    const made = redactor("", "abc");
    made.add(undefined);
    expect(made.clean("abc is not hidden")).toBe("abc is not hidden");
  });
});

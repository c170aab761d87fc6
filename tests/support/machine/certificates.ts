import { join } from "node:path";
import { run } from "./processes.ts";

export interface CertificateFiles {
  certPath: string;
  keyPath: string;
}

export interface Certificates {
  caPath: string;
  server: CertificateFiles;
  client: CertificateFiles;
  /** Of an authority that no other certificate here trusts, for the same names. */
  foreign: { caPath: string; server: CertificateFiles; client: CertificateFiles };
}

export interface CertificateOptions {
  /** Besides localhost and 127.0.0.1. */
  names?: readonly string[];
}

const ecKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

async function makeAuthority(dir: string, name: string): Promise<CertificateFiles> {
  const files = { certPath: join(dir, `${name}.crt`), keyPath: join(dir, `${name}.key`) };
  await run([
    "openssl",
    ...["req", "-x509", ...ecKey, "-days", "2", "-subj", `/CN=${name}`],
    ...["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ...["-keyout", files.keyPath, "-out", files.certPath],
  ]);
  return files;
}

/** For both ends of a connection, since a worker is server and client. */
async function makeCertificate(
  dir: string,
  name: string,
  authority: CertificateFiles,
  names: readonly string[],
): Promise<CertificateFiles> {
  const files = { certPath: join(dir, `${name}.crt`), keyPath: join(dir, `${name}.key`) };
  const san = ["DNS:localhost", "IP:127.0.0.1", "IP:::1", ...names.map((other) => `DNS:${other}`)].join(",");
  await run([
    "openssl",
    ...["req", "-x509", ...ecKey, "-days", "2", "-subj", `/CN=${name}`],
    ...["-CA", authority.certPath, "-CAkey", authority.keyPath],
    ...["-addext", `subjectAltName=${san}`],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
    ...["-addext", "extendedKeyUsage=serverAuth,clientAuth"],
    ...["-keyout", files.keyPath, "-out", files.certPath],
  ]);
  return files;
}

async function makeFamily(dir: string, prefix: string, names: readonly string[]) {
  const authority = await makeAuthority(dir, `${prefix}ca`);
  const [server, client] = await Promise.all([
    makeCertificate(dir, `${prefix}server`, authority, names),
    makeCertificate(dir, `${prefix}client`, authority, names),
  ]);
  return { caPath: authority.certPath, server, client };
}

/** Certificates for mutual TLS on this machine, valid for two days. */
export async function makeCertificates(dir: string, options: CertificateOptions = {}): Promise<Certificates> {
  const { names = [] } = options;
  const [own, foreign] = await Promise.all([makeFamily(dir, "", names), makeFamily(dir, "foreign-", names)]);
  return { ...own, foreign };
}

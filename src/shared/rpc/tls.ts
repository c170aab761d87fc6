/** Mutual TLS: both sides present a certificate of the same CA, or neither side uses TLS. */
import { isIP } from "node:net";
import tls, { type PeerCertificate } from "node:tls";
import { ChannelCredentials, type ChannelOptions, ServerCredentials } from "@grpc/grpc-js";
import { hostPort, isLoopback } from "../settings/parsers.ts";
import type { SettingProblem } from "../settings/settings.ts";

/** PEM contents. */
export interface TlsFiles {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface TlsSettings {
  readonly tlsCa: Buffer | undefined;
  readonly tlsCert: Buffer | undefined;
  readonly tlsKey: Buffer | undefined;
}

/** The three files, or undefined when none is set. */
export function tlsFilesOf(settings: TlsSettings): TlsFiles | undefined {
  const { tlsCa: ca, tlsCert: cert, tlsKey: key } = settings;
  return ca && cert && key ? { ca, cert, key } : undefined;
}

const TLS_NAMES = {
  tlsCa: "BLACKTREE_TLS_CA",
  tlsCert: "BLACKTREE_TLS_CERT",
  tlsKey: "BLACKTREE_TLS_KEY",
} as const;

/**
 * The three files are set together; without them gRPC listens only on loopback, unless `isInsecure`. `isGiven` reports
 * whether a setting was given, valid or not: a file that cannot be read is reported only once, under its setting.
 */
export function checkTransport(
  isGiven: (key: keyof TlsSettings) => boolean,
  listen: { readonly name: string; readonly host: string | undefined },
  isInsecure: boolean,
): SettingProblem[] {
  const keys = Object.keys(TLS_NAMES) as (keyof TlsSettings)[];
  const missing = keys.filter((key) => !isGiven(key));
  if (missing.length === 0) return [];
  if (missing.length < keys.length) {
    return missing.map((key) => ({
      name: TLS_NAMES[key],
      value: undefined,
      wrong: "is not set while other TLS files are",
      expected: "BLACKTREE_TLS_CA, BLACKTREE_TLS_CERT and BLACKTREE_TLS_KEY together, or none",
    }));
  }
  if (isInsecure || listen.host === undefined || isLoopback(listen.host)) return [];
  return [
    {
      name: listen.name,
      value: listen.host,
      wrong: "would serve gRPC beyond this machine without TLS",
      expected: "a loopback address, or BLACKTREE_TLS_CA, _CERT and _KEY, or BLACKTREE_INSECURE=true",
    },
  ];
}

export function serverCredentials(files: TlsFiles | undefined): ServerCredentials {
  if (!files) return ServerCredentials.createInsecure();
  const pair = { private_key: files.key, cert_chain: files.cert };
  return ServerCredentials.createSsl(files.ca, [pair], true);
}

/** Credentials and options of a channel to one address. */
export interface ChannelSecurity {
  readonly credentials: ChannelCredentials;
  readonly options: ChannelOptions;
}

/**
 * TLS (SNI) names a server by host name, never by IP address. grpc-js would send an IP address too, which Bun refuses;
 * so this name is sent to a server that is configured by IP address, and its certificate is checked for the address.
 */
const SERVER_NAME_OF_ADDRESSES = "blacktree.invalid";

const securityByFiles = new WeakMap<TlsFiles, Map<string, ChannelSecurity>>();

/** The same object for the same host: grpc-js lets channels share a connection only when they share their credentials. */
export function channelSecurity(address: string, files: TlsFiles | undefined): ChannelSecurity {
  if (!files) return { credentials: ChannelCredentials.createInsecure(), options: {} };
  const { host } = hostPort(address);
  const byHost = securityByFiles.get(files) ?? new Map<string, ChannelSecurity>();
  securityByFiles.set(files, byHost);
  const security = byHost.get(host) ?? tlsSecurity(host, files);
  byHost.set(host, security);
  return security;
}

function tlsSecurity(host: string, { ca, cert, key }: TlsFiles): ChannelSecurity {
  if (isIP(host) === 0) return { credentials: ChannelCredentials.createSsl(ca, key, cert), options: {} };
  const checkServerIdentity = (_: string, certificate: PeerCertificate) =>
    tls.checkServerIdentity(host, certificate);
  return {
    credentials: ChannelCredentials.createSsl(ca, key, cert, { checkServerIdentity }),
    options: { "grpc.ssl_target_name_override": SERVER_NAME_OF_ADDRESSES },
  };
}

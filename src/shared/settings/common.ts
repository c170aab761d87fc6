/** Settings that both daemons have. */
import { LOG_LEVELS } from "../logging.ts";
import * as parse from "./parsers.ts";
import { BadValue, optional, type Parser, withDefault } from "./settings.ts";

const tlsFile = (part: string, description: string) =>
  optional({ name: `BLACKTREE_TLS_${part}`, description }, parse.pemFile);

export const transportSettings = {
  tlsCa: tlsFile("CA", "PEM file of the CA that signed the certificates of both sides"),
  tlsCert: tlsFile("CERT", "PEM file of this program's certificate chain"),
  tlsKey: tlsFile("KEY", "PEM file of this program's private key"),
  isInsecure: withDefault(
    { name: "BLACKTREE_INSECURE", description: "allow gRPC beyond this machine without TLS" },
    parse.flag,
    "false",
  ),
};

const httpUrl = parse.url("https", "http");

/** A repository's URL is in logs and labels, so that a login in it would become public. */
const baseUrl: Parser<string> = (raw) => {
  const { username, password, search, hash } = new URL(httpUrl(raw));
  const expected = "a URL such as https://git.example.com, without user and password; jobs have a git_token";
  if (username !== "" || password !== "") throw new BadValue("contains a login", expected);
  if (search !== "" || hash !== "") throw new BadValue("has a query or fragment", expected);
  return raw;
};

export const gitSettings = {
  gitBaseUrl: withDefault(
    { name: "BLACKTREE_GIT_BASE_URL", description: "base URL for a repository that is given as owner/name" },
    baseUrl,
    "https://github.com",
  ),
  gitAllowedHosts: withDefault(
    {
      name: "BLACKTREE_GIT_ALLOWED_HOSTS",
      description: "hosts that a full repository URL may name, comma separated",
    },
    parse.commaSeparated(parse.matching(/^[A-Za-z0-9.-]+(:\d+)?$/, "host names, each with or without :port")),
    "github.com,gitlab.com,bitbucket.org",
  ),
};

export const loggingSettings = {
  logLevel: withDefault(
    { name: "BLACKTREE_LOG_LEVEL", description: `lowest level that is logged: ${LOG_LEVELS.join(", ")}` },
    parse.oneOf(...LOG_LEVELS),
    "info",
  ),
};

export const RESULT_LOG_BYTES = 256 * 1024;

export const resultLogSettings = {
  resultLogLines: withDefault(
    { name: "BLACKTREE_RESULT_LOG_LINES", description: "maximum number of log lines in a result" },
    parse.integer(0, 10_000),
    "500",
  ),
};

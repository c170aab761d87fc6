/**
 * The registry's host, from the answer to an authorization request. On AWS that answer names the caller's own
 * account, and the token is good for every registry that the caller may use: there the job's account takes its
 * place. A host of another form is an emulator's or a mirror's, and is used as it stands.
 */
const AWS_HOST =
  /^\d+(\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn))$/;

export interface RegistryHost {
  readonly host: string;
  readonly origin: string;
}

export function ecrRegistryHost(proxyEndpoint: string, awsAccount: string): RegistryHost {
  const { host, protocol } = new URL(proxyEndpoint);
  const ownHost = host.replace(AWS_HOST, `${awsAccount}$1`);
  return { host: ownHost, origin: `${protocol}//${ownHost}` };
}

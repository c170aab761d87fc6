import { STSClient } from "@aws-sdk/client-sts";

/**
 * Looks for AWS credentials where the SDK looks for them: environment, profiles, web identity, container, instance.
 * Does not ask AWS whether they are valid.
 * @throws Error with the SDK's reason when there are none
 */
export async function findAwsCredentials(region: string): Promise<void> {
  const client = new STSClient({ region });
  try {
    await client.config.credentials();
  } finally {
    client.destroy();
  }
}

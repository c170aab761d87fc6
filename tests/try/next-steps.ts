/** The last lines of `bun run try`: what to do next. */

/** @param cli the path of `blacktree`, as the user can type it. */
export function nextSteps(cli: string): string {
  return `Next:
  1. Run it on this machine. It needs git, a running Docker with BuildKit, and AWS credentials:
       AWS_PROFILE=builder ${cli} up --work-dir "$HOME/.blacktree" --region us-east-1
  2. Build your own repository, in another terminal, with your AWS account and ECR repository:
       ${cli} submit --wait --repo OWNER/NAME --branch main --version v1.0.0 \\
         --account 123456789012 --ecr-repo app-images
  docs/one-machine.md    a registry other than ECR, private repositories, all commands
  docs/many-machines.md  RabbitMQ, Redis, many workers`;
}

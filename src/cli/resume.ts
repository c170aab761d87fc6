/** `blacktree resume ID` and `blacktree resume --region NAME`. */
import { EXIT } from "../shared/settings/command-line.ts";
import { describeOrder, giveOrder, orderTarget } from "./operator-order.ts";
import { printJson, printText } from "./stdout.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

interface ResumeOptions extends ApiOptions {
  readonly region?: string;
}

export const resumeCommand: MakeCommand = (environment, finish) =>
  apiCommand("resume", environment)
    .description("start jobs again on a worker that was paused or drained, or in a drained region")
    .argument("[id]", "the worker's id")
    .option("--region <name>", "resume this region")
    .addHelpText("after", "\nExamples:\n  blacktree resume builder-7\n  blacktree resume --region us-east-1")
    .action(async (id: string | undefined, options: ResumeOptions) => {
      const target = orderTarget(id, options.region);
      const answer = await giveOrder(apiClient(options, environment), target, "resume");
      if (options.json) printJson(answer);
      else printText(describeOrder(target, answer));
      finish(EXIT.done);
    });

/** `blacktree pause ID` */
import { EXIT } from "../shared/settings/command-line.ts";
import { describeOrder, giveOrder, orderTarget } from "./operator-order.ts";
import { printJson, printText } from "./stdout.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

interface PauseOptions extends ApiOptions {
  readonly reason?: string;
}

export const pauseCommand: MakeCommand = (environment, finish) =>
  apiCommand("pause", environment)
    .description("start no jobs on a worker until it is resumed; running ones continue")
    .argument("<id>", "the worker's id")
    .option("--reason <text>", "shown wherever the pause has an effect")
    .addHelpText("after", "\nExamples:\n  blacktree pause builder-7 --reason 'slow disk'")
    .action(async (id: string, options: PauseOptions) => {
      const target = orderTarget(id, undefined);
      const answer = await giveOrder(apiClient(options, environment), target, "pause", options.reason);
      if (options.json) printJson(answer);
      else printText(describeOrder(target, answer));
      finish(EXIT.done);
    });

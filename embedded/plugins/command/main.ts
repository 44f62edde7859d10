/** The program behind `pulumi-resource-command`. */
import { serve } from "../serve.ts";
import { CommandProvider } from "./command-provider.ts";

await serve(new CommandProvider());

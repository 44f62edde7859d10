import { serve } from "../serve.ts";
import { randomProvider } from "./random-provider.ts";

await serve(randomProvider());

/** The kubernetes plugin's program: the engine starts it and talks to it. */
import { serve } from "../serve.ts";
import { KubernetesProvider } from "./kubernetes-provider.ts";

await serve(new KubernetesProvider());

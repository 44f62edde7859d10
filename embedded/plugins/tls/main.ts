import { serve } from "../serve.ts";
import { tlsProvider } from "./tls-provider.ts";

await serve(tlsProvider());

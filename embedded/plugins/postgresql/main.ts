/** The program behind `pulumi-resource-postgresql`. */
import { serve } from "../serve.ts";
import { postgresqlProvider } from "./postgresql-provider.ts";

await serve(postgresqlProvider());

// Runs in the operator's network namespace, where the API servers can be reached. Its one argument
// is an AddonsTarget as JSON.
import { applyAddons } from "../addons/addons.ts";
import type { AddonsTarget } from "./cluster.ts";

await applyAddons(JSON.parse(process.argv[2] ?? "") as AddonsTarget);

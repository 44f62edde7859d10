import { PolicyPack } from "@pulumi/policy";
import { RULES } from "./rules.ts";

// Constructing a pack starts its server, so this is the one file that does.
new PolicyPack("fluxbilling", { enforcementLevel: "mandatory", policies: [...RULES] });

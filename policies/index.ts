import { PolicyPack } from "@pulumi/policy";
import { EXCEPTIONS } from "../model/exceptions.ts";
import { PACK_REPORT_VARIABLE, POLICY_PACK_NAME } from "../model/policy-pack.ts";
import { asPolicies } from "./pulumi-pack.ts";
import { RULES } from "./rules.ts";

// Constructing a pack starts its server, so this is the one file that does.
new PolicyPack(POLICY_PACK_NAME, {
  enforcementLevel: "mandatory",
  policies: asPolicies(RULES, {
    stack: process.env["PULUMI_NODEJS_STACK"] ?? "",
    exceptions: EXCEPTIONS,
    reportFile: process.env[PACK_REPORT_VARIABLE],
  }),
});

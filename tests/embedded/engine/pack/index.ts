import * as random from "@pulumi/random";
import { PolicyPack, validateResourceOfType } from "@pulumi/policy";

new PolicyPack("engine-test-pack", {
  policies: [
    {
      name: "keys-are-long",
      description: "Every key has at least 16 bytes.",
      enforcementLevel: "mandatory",
      validateResource: validateResourceOfType(random.RandomBytes, (bytes, args, report) => {
        const { length } = bytes as { readonly length: number };
        if (length < 16) report(`${args.name}: length must be at least 16, got ${length}.`);
      }),
    },
  ],
});

import * as pulumi from "@pulumi/pulumi";

class ConfigMap extends pulumi.CustomResource {
  constructor(name: string, args: pulumi.Inputs) {
    super("kubernetes:core/v1:ConfigMap", name, args);
  }
}

new ConfigMap("one", {
  metadata: { name: "one", namespace: "objects" },
  data: { answer: "42" },
});

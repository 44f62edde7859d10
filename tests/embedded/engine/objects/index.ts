import * as pulumi from "@pulumi/pulumi";

new pulumi.CustomResource("kubernetes:core/v1:ConfigMap", "one", {
  metadata: { name: "one", namespace: "objects" },
  data: { answer: "42" },
});

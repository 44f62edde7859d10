import { parseImage } from "../../model/image.ts";
import { containersOf, makesPods, podSpecOf } from "../kubernetes-objects.ts";
import { stackRule } from "../rule.ts";

/**
 * Every image comes from a registry that the fleet allows.
 *
 * Why: an image from anywhere else was built and kept by nobody whom the customer has a contract with.
 * Blind to: what the registry holds; the digest says which image it is.
 */
export const imageFromAnAllowedRegistry = stackRule(
  {
    name: "image-from-an-allowed-registry",
    description: "Every image comes from a registry that the fleet allows.",
    group: "supply chain",
    severity: "high",
    claims: ["F35", "F36"],
    references: [
      "CIS Kubernetes 5.5.1",
      "PCI DSS 4.0.1 6.3.2",
      "SOC 2 CC6.8",
      "ISO 27001:2022 A.8.19",
    ],
    remediation:
      "Push the image to a registry of fluxbilling:fleet.imageRegistries, or add the registry there.",
  },
  (subjects, report) => {
    const allowed = subjects
      .filter(({ type }) => type.startsWith("fluxbilling:"))
      .flatMap(({ props }) => [
        ...((props as { imageRegistries?: readonly string[] }).imageRegistries ?? []),
      ]);
    for (const subject of subjects.filter(({ type }) => makesPods(type))) {
      for (const { name, image } of containersOf(podSpecOf(subject.type, subject.props) ?? {})) {
        const registry = parseImage(image ?? "")?.registry;
        // What is no reference is another rule's to refuse: image-by-digest.
        if (registry !== undefined && !allowed.includes(registry)) {
          report(
            `${subject.name}: the image of container ${name ?? "without a name"} must come from ${allowed.join(", ") || "a registry that the fleet names"}, got ${image ?? "none"}.`,
            subject,
          );
        }
      }
    }
  },
);

import { IMAGE_RULE, parseImage } from "../../model/image.ts";
import { containersOf, makesPods, podSpecOf } from "../kubernetes-objects.ts";
import { resourceRule } from "../rule.ts";

/**
 * Every container's image is named by its digest.
 *
 * Why: a tag can be moved to another image after review; a digest is the image.
 * Blind to: what is in the image, and which registries a fleet allows: the settings check those.
 */
export const imageByDigest = resourceRule(
  {
    name: "image-by-digest",
    description: "Every container's image is named by its digest.",
    group: "supply chain",
    severity: "high",
    claims: ["F35", "F36"],
    references: [
      "PCI DSS 4.0.1 6.3.2",
      "SOC 2 CC6.8",
      "ISO 27001:2022 A.8.19",
      "CIS Kubernetes 5.5.1",
    ],
    remediation: "Name the image by its digest in the fleet's settings.",
    judges: makesPods,
  },
  (subject, report) => {
    if (!makesPods(subject.type)) {
      return;
    }
    for (const { name, image } of containersOf(podSpecOf(subject.type, subject.props) ?? {})) {
      if (image === undefined || parseImage(image) === undefined) {
        report(
          `${subject.name}: the image of container ${name ?? "without a name"} ${IMAGE_RULE}, got ${image ?? "none"}.`,
        );
      }
    }
  },
);

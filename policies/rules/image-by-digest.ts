import type { ResourceValidationPolicy } from "@pulumi/policy";
import { IMAGE_RULE, parseImage } from "../../model/image.ts";
import { failClosed } from "../fail-closed.ts";
import { containersOf, makesPods, podSpecOf } from "../kubernetes-objects.ts";

/**
 * Every container's image is named by its digest.
 *
 * Why: a tag can be moved to another image after review; a digest is the image.
 * Blind to: what is in the image, and which registries a fleet allows: the settings check those.
 */
export const imageByDigest: ResourceValidationPolicy = {
  name: "image-by-digest",
  description: "Every container's image is named by its digest.",
  enforcementLevel: "mandatory",
  validateResource: failClosed((args, report) => {
    if (!makesPods(args.type)) {
      return;
    }
    for (const { name, image } of containersOf(podSpecOf(args.type, args.props) ?? {})) {
      if (image === undefined || parseImage(image) === undefined) {
        report(
          `${args.name}: the image of container ${name ?? "without a name"} ${IMAGE_RULE}, got ${image ?? "none"}.`,
        );
      }
    }
  }),
};

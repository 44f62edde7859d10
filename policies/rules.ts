import type { Policies } from "@pulumi/policy";
import { connectionProvesItsPeer } from "./rules/connection-proves-its-peer.ts";
import { dataStaysInItsZone } from "./rules/data-stays-in-its-zone.ts";
import { databaseRefusesPublicConnect } from "./rules/database-refuses-public-connect.ts";
import { headersInsistOnHttps } from "./rules/headers-insist-on-https.ts";
import { imageByDigest } from "./rules/image-by-digest.ts";
import { ingressSpeaksTlsOnly } from "./rules/ingress-speaks-tls-only.ts";
import { namespaceNamesItsZone } from "./rules/namespace-names-its-zone.ts";
import { networkPeerIsExact } from "./rules/network-peer-is-exact.ts";
import { noGrantRole } from "./rules/no-grant-role.ts";
import { oneDefaultTlsOption } from "./rules/one-default-tls-option.ts";
import { podsRunRestricted } from "./rules/pods-run-restricted.ts";
import { providerIsTheLocationsOwn } from "./rules/provider-is-the-locations-own.ts";
import { roleHasNoPower } from "./rules/role-has-no-power.ts";
import { secretsAreFiles } from "./rules/secrets-are-files.ts";
import { serviceStaysInside } from "./rules/service-stays-inside.ts";
import { tenantNamespaceHasDefaultDeny } from "./rules/tenant-namespace-has-default-deny.ts";
import { tlsOptionFloorIs13 } from "./rules/tls-option-floor-is-1-3.ts";

/** Every rule of the pack: exactly the files of `rules/`. */
export const RULES: Policies = [
  connectionProvesItsPeer,
  dataStaysInItsZone,
  databaseRefusesPublicConnect,
  headersInsistOnHttps,
  imageByDigest,
  ingressSpeaksTlsOnly,
  namespaceNamesItsZone,
  networkPeerIsExact,
  noGrantRole,
  oneDefaultTlsOption,
  podsRunRestricted,
  providerIsTheLocationsOwn,
  roleHasNoPower,
  secretsAreFiles,
  serviceStaysInside,
  tenantNamespaceHasDefaultDeny,
  tlsOptionFloorIs13,
];

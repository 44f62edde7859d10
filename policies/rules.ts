import type { Rule } from "./rule.ts";
import { accessStaysInItsNamespace } from "./rules/access-stays-in-its-namespace.ts";
import { backupIsKeptAsThePlanSays } from "./rules/backup-is-kept-as-the-plan-says.ts";
import { backupKeyOnlyAdds } from "./rules/backup-key-only-adds.ts";
import { connectionProvesItsPeer } from "./rules/connection-proves-its-peer.ts";
import { dataStaysInItsZone } from "./rules/data-stays-in-its-zone.ts";
import { databaseRefusesPublicConnect } from "./rules/database-refuses-public-connect.ts";
import { filesLieOnEncryptedVolumes } from "./rules/files-lie-on-encrypted-volumes.ts";
import { grantIsLeast } from "./rules/grant-is-least.ts";
import { headersInsistOnHttps } from "./rules/headers-insist-on-https.ts";
import { hostArtefactsArePinned } from "./rules/host-artefacts-are-pinned.ts";
import { hostIsTheTenantsOwn } from "./rules/host-is-the-tenants-own.ts";
import { hostProvesItsEncryption } from "./rules/host-proves-its-encryption.ts";
import { imageByDigest } from "./rules/image-by-digest.ts";
import { imageFromAnAllowedRegistry } from "./rules/image-from-an-allowed-registry.ts";
import { ingressSpeaksTlsOnly } from "./rules/ingress-speaks-tls-only.ts";
import { loginOwnsNothing } from "./rules/login-owns-nothing.ts";
import { namespaceHasDefaultDeny } from "./rules/namespace-has-default-deny.ts";
import { namespaceNamesItsZone } from "./rules/namespace-names-its-zone.ts";
import { networkPeerIsExact } from "./rules/network-peer-is-exact.ts";
import { networkPolicySelectsAPod } from "./rules/network-policy-selects-a-pod.ts";
import { noExceptionHasEnded } from "./rules/no-exception-has-ended.ts";
import { noGrantRole } from "./rules/no-grant-role.ts";
import { noKeyLiteral } from "./rules/no-key-literal.ts";
import { nothingJudgedIsIgnored } from "./rules/nothing-judged-is-ignored.ts";
import { oneDefaultTlsOption } from "./rules/one-default-tls-option.ts";
import { podsRunRestricted } from "./rules/pods-run-restricted.ts";
import { providerIsTheLocationsOwn } from "./rules/provider-is-the-locations-own.ts";
import { redirectGoesToHttps } from "./rules/redirect-goes-to-https.ts";
import { replayReachesNothing } from "./rules/replay-reaches-nothing.ts";
import { roleHasNoPower } from "./rules/role-has-no-power.ts";
import { rootKeyIsInNoResource } from "./rules/root-key-is-in-no-resource.ts";
import { routeStaysInItsNamespace } from "./rules/route-stays-in-its-namespace.ts";
import { secretsAreFiles } from "./rules/secrets-are-files.ts";
import { serviceStaysInside } from "./rules/service-stays-inside.ts";
import { suspendedIsAnswered402 } from "./rules/suspended-is-answered-402.ts";
import { systemNamespaceIsShut } from "./rules/system-namespace-is-shut.ts";
import { tcpRouteIsATenantsMqtt } from "./rules/tcp-route-is-a-tenants-mqtt.ts";
import { tenantFitsItsPlan } from "./rules/tenant-fits-its-plan.ts";
import { tenantHoldsTenantTypes } from "./rules/tenant-holds-tenant-types.ts";
import { tenantIsBackedUpDaily } from "./rules/tenant-is-backed-up-daily.ts";
import { tenantIsWhole } from "./rules/tenant-is-whole.ts";
import { tenantObjectsAreItsOwn } from "./rules/tenant-objects-are-its-own.ts";
import { tenantReachesOnlyItsOwn } from "./rules/tenant-reaches-only-its-own.ts";
import { tenantRolesAreItsOwn } from "./rules/tenant-roles-are-its-own.ts";
import { tenantSecretIsImmutable } from "./rules/tenant-secret-is-immutable.ts";
import { tenantUsesItsLocationsProviders } from "./rules/tenant-uses-its-locations-providers.ts";
import { tlsOptionFloorIs13 } from "./rules/tls-option-floor-is-1-3.ts";
import { typeIsKnown } from "./rules/type-is-known.ts";
import { whatHoldsDataIsProtected } from "./rules/what-holds-data-is-protected.ts";

/** Every rule of the pack: exactly the files of `rules/`. */
export const RULES: readonly Rule[] = [
  accessStaysInItsNamespace,
  backupIsKeptAsThePlanSays,
  backupKeyOnlyAdds,
  connectionProvesItsPeer,
  dataStaysInItsZone,
  databaseRefusesPublicConnect,
  filesLieOnEncryptedVolumes,
  grantIsLeast,
  headersInsistOnHttps,
  hostArtefactsArePinned,
  hostIsTheTenantsOwn,
  hostProvesItsEncryption,
  imageByDigest,
  imageFromAnAllowedRegistry,
  ingressSpeaksTlsOnly,
  loginOwnsNothing,
  namespaceHasDefaultDeny,
  namespaceNamesItsZone,
  networkPeerIsExact,
  networkPolicySelectsAPod,
  noExceptionHasEnded,
  noGrantRole,
  noKeyLiteral,
  nothingJudgedIsIgnored,
  oneDefaultTlsOption,
  podsRunRestricted,
  providerIsTheLocationsOwn,
  redirectGoesToHttps,
  replayReachesNothing,
  roleHasNoPower,
  rootKeyIsInNoResource,
  routeStaysInItsNamespace,
  secretsAreFiles,
  serviceStaysInside,
  suspendedIsAnswered402,
  systemNamespaceIsShut,
  tcpRouteIsATenantsMqtt,
  tenantFitsItsPlan,
  tenantHoldsTenantTypes,
  tenantIsBackedUpDaily,
  tenantIsWhole,
  tenantObjectsAreItsOwn,
  tenantReachesOnlyItsOwn,
  tenantRolesAreItsOwn,
  tenantSecretIsImmutable,
  tenantUsesItsLocationsProviders,
  tlsOptionFloorIs13,
  typeIsKnown,
  whatHoldsDataIsProtected,
];

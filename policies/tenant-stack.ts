import type { Exception } from "../model/exceptions.ts";
import { COMPONENT_LABEL, TENANT_LABEL } from "../model/labels.ts";
import { PLANS } from "../model/plan.ts";
import type { PlanName } from "../model/plan.ts";
import { isTenantName, tenantNames } from "../model/tenant-name.ts";
import type { TenantName, TenantNames } from "../model/tenant-name.ts";
import { metadataOf, podSpecOf } from "./kubernetes-objects.ts";
import type { Container } from "./kubernetes-objects.ts";
import type { Subject } from "./rule.ts";

/** The type of the component that says what a tenant is. */
export const TENANT_TYPE = "fluxbilling:tenant:Tenant";

/** What a tenant's component says about it, before it is believed. */
export interface TenantStatement {
  readonly tenant?: string;
  readonly plan?: string;
  readonly zone?: string;
  readonly location?: string;
  readonly imageRegistries?: readonly string[];
  readonly protectData?: boolean;
  readonly identityKinds?: readonly string[];
  /** @default the application does not speak MQTT */
  readonly mqtt?: boolean;
  /** @default nothing is replayed */
  readonly replay?: boolean;
}

/** A tenant whose name is one, with the names that follow from it. */
export interface StackTenant {
  readonly subject: Subject;
  readonly says: TenantStatement;
  readonly tenant: TenantName;
  readonly names: TenantNames;
}

/** The tenants of a stack: one in a tenant's stack, none in a fleet's. */
export function tenantsOf(subjects: readonly Subject[]): readonly StackTenant[] {
  return subjects
    .filter(({ type }) => type === TENANT_TYPE)
    .flatMap((subject) => {
      const says = subject.props as TenantStatement;
      const { tenant } = says;
      // A name that is none is another rule's to refuse: tenant-is-whole.
      return isTenantName(tenant) ? [{ subject, says, tenant, names: tenantNames(tenant) }] : [];
    });
}

/** Resources of a type, inputs as an interface of optional fields. */
export function ofType<Props>(
  subjects: readonly Subject[],
  type: string,
): readonly { readonly subject: Subject; readonly props: Props }[] {
  return subjects
    .filter((subject) => subject.type === type)
    .map((subject) => ({ subject, props: subject.props as Props }));
}

/** Whether a text names a plan. */
export function isPlanName(text: unknown): text is PlanName {
  return typeof text === "string" && Object.hasOwn(PLANS, text);
}

/** Objects of a tenant's namespace. */
export function inNamespace(subjects: readonly Subject[], namespace: string): readonly Subject[] {
  return subjects.filter(
    ({ type, props }) =>
      type.startsWith("kubernetes:") && metadataOf(props).namespace === namespace,
  );
}

/** The value of a variable of the first container that has it. */
export function variableOf(containers: readonly Container[], variable: string): string | undefined {
  return containers.flatMap(({ env }) => [...(env ?? [])]).find(({ name }) => name === variable)
    ?.value;
}

/** The containers of the pods of a component, such as `app`, in a namespace. */
export function containersOfComponent(
  subjects: readonly Subject[],
  namespace: string,
  component: string,
): readonly Container[] {
  return inNamespace(subjects, namespace)
    .filter(({ props }) => metadataOf(props).labels?.[COMPONENT_LABEL] === component)
    .flatMap(({ type, props }) => [...(podSpecOf(type, props)?.containers ?? [])]);
}

/** Whether a Kubernetes type has no namespace of its own, of those that this pack knows. */
export function isClusterWide(type: string): boolean {
  return /:(Namespace|ClusterRole|ClusterRoleBinding|StorageClass|PersistentVolume|PriorityClass|IngressClass)$/.test(
    type,
  );
}

/** The tenant that an object's label names. */
export function tenantLabelOf(props: unknown): string | undefined {
  return metadataOf(props).labels?.[TENANT_LABEL];
}

/** The type under which exceptions stand among the subjects of rules. */
export const EXCEPTION_TYPE = "fluxbilling:policy:Exception";

/** Exceptions as subjects, so that a rule judges them like all else. */
export function exceptionSubjects(exceptions: readonly Exception[]): readonly Subject[] {
  return exceptions.map((exception) => ({
    type: EXCEPTION_TYPE,
    name: `exception of ${exception.tenant} from ${exception.rule}`,
    urn: "",
    props: exception,
    opts: { protect: false, ignoreChanges: [] },
  }));
}

import { stringify } from "yaml";

import type { KubernetesObject } from "./cluster-api.ts";
import {
  CONTAINER_SECURITY,
  ownLabels,
  POD_SECURITY,
  SYSTEM_NAMESPACE,
  SYSTEM_POD,
} from "./pod-settings.ts";

const NAME = "local-path-provisioner";
const ACCOUNT = "local-path-provisioner-service-account";
const CONFIG = "local-path-config";
const PROVISIONER = "rancher.io/local-path";
const SELECTOR = { app: NAME } as const;

/** Folder of the node that holds all volumes. */
const VOLUMES_FOLDER = "/var/lib/local-path";

/**
 * Volumes out of folders of the node: the program that K3s ships, with K3s's names.
 *
 * @param helperImage image with a shell, for the pods that make and clear folders
 */
export function localPath(image: string, helperImage: string): KubernetesObject[] {
  const metadata = { name: NAME, namespace: SYSTEM_NAMESPACE };
  const subjects = [{ kind: "ServiceAccount", name: ACCOUNT, namespace: SYSTEM_NAMESPACE }];
  return [
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: ACCOUNT, namespace: SYSTEM_NAMESPACE, labels: ownLabels(NAME) },
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "Role",
      metadata: { name: "local-path-provisioner-role", namespace: SYSTEM_NAMESPACE },
      rules: [
        {
          apiGroups: [""],
          resources: ["pods"],
          verbs: ["get", "list", "watch", "create", "patch", "update", "delete"],
        },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: "local-path-provisioner-bind", namespace: SYSTEM_NAMESPACE },
      roleRef: {
        apiGroup: "rbac.authorization.k8s.io",
        kind: "Role",
        name: "local-path-provisioner-role",
      },
      subjects,
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "local-path-provisioner-role" },
      rules: [
        {
          apiGroups: [""],
          resources: ["nodes", "persistentvolumeclaims", "configmaps", "pods", "pods/log"],
          verbs: ["get", "list", "watch"],
        },
        {
          apiGroups: [""],
          resources: ["persistentvolumes"],
          verbs: ["get", "list", "watch", "create", "patch", "update", "delete"],
        },
        { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
        {
          apiGroups: ["storage.k8s.io"],
          resources: ["storageclasses"],
          verbs: ["get", "list", "watch"],
        },
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "local-path-provisioner-bind" },
      roleRef: {
        apiGroup: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        name: "local-path-provisioner-role",
      },
      subjects,
    },
    {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: {
        name: "local-path",
        annotations: { "storageclass.kubernetes.io/is-default-class": "true" },
      },
      provisioner: PROVISIONER,
      reclaimPolicy: "Delete",
      volumeBindingMode: "WaitForFirstConsumer",
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: CONFIG, namespace: SYSTEM_NAMESPACE },
      data: {
        "config.json": JSON.stringify({
          nodePathMap: [{ node: "DEFAULT_PATH_FOR_NON_LISTED_NODES", paths: [VOLUMES_FOLDER] }],
        }),
        setup: '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
        teardown: '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
        "helperPod.yaml": stringify(helperPod(helperImage)),
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { ...metadata, labels: ownLabels(NAME) },
      spec: {
        replicas: 1,
        revisionHistoryLimit: 0,
        strategy: { type: "Recreate" },
        selector: { matchLabels: SELECTOR },
        template: {
          metadata: { labels: { ...ownLabels(NAME), ...SELECTOR } },
          spec: podSpec(image, helperImage),
        },
      },
    },
  ];
}

function podSpec(image: string, helperImage: string): object {
  return {
    ...SYSTEM_POD,
    serviceAccountName: ACCOUNT,
    securityContext: POD_SECURITY,
    containers: [
      {
        name: NAME,
        image,
        imagePullPolicy: "IfNotPresent",
        args: [
          "start",
          "--config=/etc/config/config.json",
          `--service-account-name=${ACCOUNT}`,
          `--provisioner-name=${PROVISIONER}`,
          `--configmap-name=${CONFIG}`,
          `--helper-image=${helperImage}`,
          `--namespace=${SYSTEM_NAMESPACE}`,
        ],
        env: [
          { name: "POD_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
          { name: "CONFIG_MOUNT_PATH", value: "/etc/config/" },
        ],
        securityContext: CONTAINER_SECURITY,
        resources: { requests: { cpu: "10m", memory: "24Mi" }, limits: { memory: "128Mi" } },
        volumeMounts: [{ name: "config", mountPath: "/etc/config", readOnly: true }],
      },
    ],
    volumes: [{ name: "config", configMap: { name: CONFIG } }],
  };
}

/** Makes or clears one folder. Root, since the folders' parent is root's; of root's rights it has one. */
function helperPod(image: string): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "helper-pod" },
    spec: {
      priorityClassName: "system-node-critical",
      automountServiceAccountToken: false,
      securityContext: { seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          name: "helper-pod",
          image,
          imagePullPolicy: "IfNotPresent",
          securityContext: {
            runAsUser: 0,
            runAsGroup: 0,
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            // Clearing a folder means deleting files of whoever wrote them.
            capabilities: { drop: ["ALL"], add: ["DAC_OVERRIDE"] },
          },
        },
      ],
    },
  };
}

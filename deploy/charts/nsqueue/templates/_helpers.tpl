{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- define "nsqueue.name" -}}
{{- default .Chart.Name .Values.nameOverride | trimSuffix "-" -}}
{{- end -}}

{{- define "nsqueue.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trimSuffix "-" -}}
{{- else if contains (include "nsqueue.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "nsqueue.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nsqueue.selector" -}}
app.kubernetes.io/name: {{ include "nsqueue.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nsqueue.labels" -}}
{{ include "nsqueue.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "nsqueue.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "nsqueue.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "nsqueue.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Namespaces whose pods are never inspected, sorted. */ -}}
{{- define "nsqueue.excludeNamespaces" -}}
{{- $names := concat (list "kube-system") .Values.excludeNamespaces -}}
{{- if ne .Release.Namespace "default" -}}
{{- $names = append $names .Release.Namespace -}}
{{- end -}}
{{- $names | uniq | sortAlpha | toJson -}}
{{- end -}}

{{- define "nsqueue.hasRules" -}}
{{- if or .Values.rules .Values.rulesConfigMaps -}}yes{{- end -}}
{{- end -}}

{{- /* Whether the node's sysctls of the network are needed: for the module alone. */ -}}
{{- define "nsqueue.hasModule" -}}
{{- if or .Values.hook.module .Values.hook.load (eq .Values.hook.kind "kmod") -}}yes{{- end -}}
{{- end -}}

{{- /* The text of nsqueued's configuration file. */ -}}
{{- define "nsqueue.config" -}}
{{- $c := dict
  "apiVersion" "nsqueue.io/v1alpha1"
  "kind" "DaemonConfiguration"
  "failurePolicy" .Values.failurePolicy
  "logLevel" .Values.logLevel
  "logFormat" .Values.logFormat
  "hook" (ternary "kmod" .Values.hook.kind .Values.hook.load)
  "adopt" (dict
    "existing" .Values.adoptExisting
    "excludeNamespaces" (include "nsqueue.excludeNamespaces" . | fromJsonArray)
    "netnsDirs" .Values.host.netnsDirs
    "cacheDir" (printf "%s/results" .Values.host.cniCacheDir)) -}}
{{- if include "nsqueue.hasModule" . -}}
{{- $_ := set $c "kmodSysctls" "/host/proc/sys/net" -}}
{{- end -}}
{{- if include "nsqueue.hasRules" . -}}
{{- $_ := set $c "rules" (dict "directory" "/etc/nsqueue/rules.d") -}}
{{- end -}}
{{- mergeOverwrite $c (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{- /* What all pods of the chart are. */ -}}
{{- define "nsqueue.pod" -}}
# In the node's network the pod itself gets no CNI call, and needs no network of pods.
hostNetwork: true
dnsPolicy: Default
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Where a pod may run that is on one node, any of them: on none that is down. */ -}}
{{- define "nsqueue.jobTolerations" -}}
tolerations:
  # Another node is taken at once where this one does not answer any more.
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
  {{- with .Values.cleanup.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* What pods are that look after the node: they see all of its processes. */ -}}
{{- define "nsqueue.nodePod" -}}
{{ include "nsqueue.pod" . }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
# Only so nsqueued sees the processes of all pods.
hostPID: true
{{- if semverCompare ">=1.33.0-0" .Capabilities.KubeVersion.Version }}
hostUsers: true
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  seccompProfile: {type: RuntimeDefault}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
  # The profiles of runtimes forbid looking at other processes.
  appArmorProfile: {type: Unconfined}
{{- end }}
  seLinuxOptions: {type: spc_t}
{{- end -}}

{{- /* Before Kubernetes 1.30 an annotation says what AppArmor allows. */ -}}
{{- define "nsqueue.appArmorAnnotations" -}}
{{- if semverCompare "<1.30.0-0" .context.Capabilities.KubeVersion.Version -}}
{{- range .containers }}
container.apparmor.security.beta.kubernetes.io/{{ . }}: unconfined
{{- end }}
{{- end -}}
{{- end -}}

{{- define "nsqueue.container" -}}
image: {{ include "nsqueue.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "nsqueue.securityContext" -}}
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: {{- .Values.capabilities | toYaml | nindent 4 }}
{{- if .Values.hook.load }}
    - SYS_MODULE
{{- end }}
{{- end -}}

{{- define "nsqueue.cniSecurityContext" -}}
{{- if eq .Values.cni.mode "auto" -}}
{{- include "nsqueue.runtimeSecurityContext" . -}}
{{- else -}}
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
{{- end -}}

{{- /* Of containers that have to know which runtime runs. */ -}}
{{- define "nsqueue.runtimeSecurityContext" -}}
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  # Runs the program of the node's runtime, which then tells its version.
  add:
    - SYS_CHROOT
    - SYS_PTRACE
{{- end -}}

{{- define "nsqueue.cleanupLabels" -}}
app.kubernetes.io/name: {{ include "nsqueue.name" . }}-cleanup
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The node's directories, as nsqueued has them. */ -}}
{{- define "nsqueue.nodeMounts" -}}
- {name: run, mountPath: /run/nsqueue}
{{- range $i, $dir := .Values.host.netnsDirs }}
# The network namespaces of pods that are made later must appear here, too.
- {name: {{ include "nsqueue.netnsVolume" $i }}, mountPath: {{ $dir }}, mountPropagation: HostToContainer}
{{- end }}
{{- if include "nsqueue.hasRules" . }}
# The container runtime tells the labels of pods there, for rules that ask for them.
- {name: nri, mountPath: /var/run/nri, readOnly: true}
{{- end }}
- {name: results, mountPath: {{ .Values.host.cniCacheDir }}, readOnly: true}
- {name: configurations, mountPath: {{ .Values.host.cniConfDir }}, readOnly: true}
- {name: plugins, mountPath: {{ .Values.host.cniBinDir }}, readOnly: true}
{{- if include "nsqueue.hasModule" . }}
- {name: sysctls, mountPath: /host/proc/sys/net}
{{- end }}
{{- if .Values.hook.load }}
- {name: modules, mountPath: /lib/modules, readOnly: true}
{{- end }}
{{- end -}}

{{- define "nsqueue.cniMounts" -}}
- {name: run, mountPath: /run/nsqueue}
- {name: configurations, mountPath: {{ .Values.host.cniConfDir }}}
- {name: plugins, mountPath: {{ .Values.host.cniBinDir }}}
{{- end -}}

{{- define "nsqueue.netnsVolume" -}}
{{- if . -}}netns-{{ . }}{{- else -}}netns{{- end -}}
{{- end -}}

{{- define "nsqueue.nodeVolumes" -}}
- {name: run, hostPath: {path: /run/nsqueue, type: DirectoryOrCreate}}
{{- range $i, $dir := .Values.host.netnsDirs }}
- {name: {{ include "nsqueue.netnsVolume" $i }}, hostPath: {path: {{ $dir }}, type: DirectoryOrCreate}}
{{- end }}
{{- if include "nsqueue.hasRules" . }}
- {name: nri, hostPath: {path: /var/run/nri, type: DirectoryOrCreate}}
{{- end }}
- {name: results, hostPath: {path: {{ .Values.host.cniCacheDir }}, type: DirectoryOrCreate}}
- {name: configurations, hostPath: {path: {{ .Values.host.cniConfDir }}, type: DirectoryOrCreate}}
- {name: plugins, hostPath: {path: {{ .Values.host.cniBinDir }}, type: DirectoryOrCreate}}
{{- if include "nsqueue.hasModule" . }}
- {name: sysctls, hostPath: {path: /proc/sys/net, type: Directory}}
{{- end }}
{{- if .Values.hook.load }}
- {name: modules, hostPath: {path: /lib/modules, type: Directory}}
{{- end }}
{{- end -}}

{{- /* What nsqueued reads. As a subPath the file stays what the pod was started with, */ -}}
{{- /* whatever the ConfigMap becomes: a bad one must not meet the old pod's daemon. */ -}}
{{- define "nsqueue.settingMounts" -}}
- {name: config, mountPath: /etc/nsqueue/nsqueued.yaml, subPath: nsqueued.yaml, readOnly: true}
{{- if include "nsqueue.hasRules" . }}
- {name: rules, mountPath: /etc/nsqueue/rules.d, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

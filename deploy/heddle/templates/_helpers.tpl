{{/* Every helper takes the root context, unless it says otherwise. */}}

{{- define "heddle.version" -}}
{{ .Values.image.version | default .Chart.AppVersion }}
{{- end }}

{{- define "heddle.image.controlPlane" -}}
{{ .Values.image.controlPlane | default (printf "%s/heddle:%s" .Values.image.registry (include "heddle.version" .)) }}
{{- end }}

{{- define "heddle.image.proxy" -}}
{{ .Values.image.proxy | default (printf "%s/heddle-proxy:%s" .Values.image.registry (include "heddle.version" .)) }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "heddle.labels" -}}
app.kubernetes.io/name: heddle
app.kubernetes.io/part-of: heddle
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What a Deployment and its Service select. It takes the component's name. It must never change. */}}
{{- define "heddle.selector" -}}
app.kubernetes.io/name: heddle
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* The namespaces where nothing is ever injected, as a list. */}}
{{- define "heddle.excluded" -}}
{{ toJson (uniq (concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.injector.excludedNamespaces)) }}
{{- end }}

{{/* What pods have unless their annotations say otherwise: KEY=VALUE,... */}}
{{- define "heddle.proxyDefaults" -}}
{{- $p := .Values.proxy }}
{{- $all := dict "proxy-cpu-request" $p.cpuRequest "proxy-cpu-limit" $p.cpuLimit "proxy-memory-request" $p.memoryRequest "proxy-memory-limit" $p.memoryLimit "proxy-log-level" $p.logLevel "proxy-concurrency" $p.concurrency "drain-time" $p.drainTime "prestop-sleep" $p.prestopSleep }}
{{- $set := list }}
{{- range $key := keys $all | sortAlpha }}
{{- with get $all $key }}{{ $set = append $set (printf "heddle.dev/%s=%v" $key .) }}{{ end }}
{{- end }}
{{- join "," $set }}
{{- end }}

{{/*
The values that differ from the defaults, as YAML: they outlive an upgrade, and defaults do not. It takes a dict of values
and defaults. A default that was taken out is written as null, as Helm has it.
*/}}
{{- define "heddle.overrides" -}}
{{- $out := dict }}
{{- range $key, $value := .values }}
{{- $default := get $.defaults $key }}
{{- if and (kindIs "map" $value) (kindIs "map" $default) }}
{{- $inner := include "heddle.overrides" (dict "values" $value "defaults" $default) | fromYaml }}
{{- if $inner }}{{ $_ := set $out $key $inner }}{{ end }}
{{- else if not (and (hasKey $.defaults $key) (eq (toJson $value) (toJson $default))) }}
{{- $_ := set $out $key $value }}
{{- end }}
{{- end }}
{{- range $key, $default := .defaults }}
{{- if not (hasKey $.values $key) }}{{ $_ := set $out $key nil }}{{ end }}
{{- end }}
{{- toYaml $out }}
{{- end }}

{{/* What both Deployments have in their spec. It takes a dict of root, name, component and values (server or signer). */}}
{{- define "heddle.deployment" -}}
replicas: {{ .values.replicas }}
revisionHistoryLimit: 5
# A new pod is ready before an old one ends, with one replica too.
strategy:
  type: RollingUpdate
  rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
selector:
  matchLabels:
    {{- include "heddle.selector" .component | nindent 4 }}
{{- end }}

{{/* The metadata of a pod template; the same dict. */}}
{{- define "heddle.podMetadata" -}}
labels:
  {{- include "heddle.selector" .component | nindent 2 }}
  app.kubernetes.io/part-of: heddle
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  {{- with merge (dict) .values.podLabels .root.Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  heddle.dev/inject: disabled
  kubectl.kubernetes.io/default-container: heddle
  {{- if .root.Values.prometheus.annotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: "15014"
  prometheus.io/path: /metrics
  {{- end }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where pods run and as whom; the same dict. */}}
{{- define "heddle.podSpec" -}}
{{- $v := .root.Values -}}
serviceAccountName: {{ .name }}
automountServiceAccountToken: true
enableServiceLinks: false
# The sleep before SIGTERM, the drain after it, and time to spare.
terminationGracePeriodSeconds: {{ $v.shutdown.graceSeconds }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if ne $v.spread.hosts "off" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "heddle.selector" .component | nindent 12 }}
{{- end }}
{{- $spread := dict "kubernetes.io/hostname" $v.spread.hosts "topology.kubernetes.io/zone" $v.spread.zones }}
{{- if or (ne $v.spread.hosts "off") (ne $v.spread.zones "off") }}
topologySpreadConstraints:
{{- range $key, $how := $spread }}
{{- if ne $how "off" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: {{ ternary "DoNotSchedule" "ScheduleAnyway" (eq $how "required") }}
  labelSelector:
    matchLabels:
      {{- include "heddle.selector" $.component | nindent 6 }}
  # Each rollout is spread by itself: pods that are about to end take up no place.
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What both containers have, but for env, ports and volumeMounts; the same dict. */}}
{{- define "heddle.container" -}}
{{- $v := .root.Values -}}
name: heddle
image: {{ include "heddle.image.controlPlane" .root | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
args: [serve, --role, {{ .component }}]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
resources:
  {{- toYaml .values.resources | nindent 2 }}
startupProbe:
  httpGet: {path: /livez, port: status}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /livez, port: status}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: status}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 3
{{- if $v.shutdown.sleepSeconds }}
lifecycle:
  # Who finds this pod by its Service has found another one before it stops.
  preStop: {sleep: {seconds: {{ $v.shutdown.sleepSeconds }}}}
{{- end }}
{{- end }}

{{/* The environment that both have: each variable is a flag of heddle serve. */}}
{{- define "heddle.env" -}}
{{- $v := .Values -}}
- {name: HEDDLE_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: HEDDLE_TRUST_DOMAIN, value: {{ $v.trustDomain | quote }}}
- {name: HEDDLE_CERTIFICATE_LIFETIME, value: {{ $v.certificateLifetime | quote }}}
- {name: HEDDLE_LISTEN, value: ":15014"}
- {name: HEDDLE_DRAIN, value: {{ $v.shutdown.drain | quote }}}
- {name: HEDDLE_LOG_LEVEL, value: {{ $v.log.level | quote }}}
- {name: HEDDLE_LOG_FORMAT, value: {{ $v.log.format | quote }}}
{{- end }}

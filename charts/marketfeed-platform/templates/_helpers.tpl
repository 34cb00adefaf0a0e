{{/* Labels of every object. Takes (dict "root" $ "component" NAME). */}}
{{- define "platform.labels" -}}
{{ include "platform.selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels that never change: selectors and volume claims cannot. */}}
{{- define "platform.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: marketfeed-platform
{{- end }}

{{/* Name, namespace and labels. Takes (dict "root" $ "component" NAME), and "name" and "namespace" where they differ. */}}
{{- define "platform.metadata" -}}
name: {{ .name | default .component }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "platform.labels" . | nindent 2 }}
{{- end }}

{{/* Fields of a container: its image, and the security that all have. Takes (dict "root" $ "component" NAME "values" ...). */}}
{{- define "platform.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
image: {{ printf "%s:%s" .image.repository $tag | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{- define "platform.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Fields of a pod: the restricted pod security standard, and where it runs. Takes (dict "root" $ "user" NUMBER). */}}
{{- define "platform.pod" -}}
enableServiceLinks: false # a Service called `kafka` would set KAFKA_PORT
automountServiceAccountToken: {{ .token | default false }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user | int64 }}
  runAsGroup: {{ .user | int64 }}
  fsGroup: {{ .user | int64 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The claim template `data` of a StatefulSet; nothing without persistence, where the pod has an emptyDir instead. */}}
{{- define "platform.claim" -}}
{{- with .values.persistence }}
{{- if .enabled }}
volumeClaimTemplates:
- metadata:
    name: data
    labels:
      {{- include "platform.selector" $ | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end }}
{{- end }}
{{- end }}

{{- define "platform.data" -}}
{{- if not .values.persistence.enabled }}
- name: data
  emptyDir: {}
{{- end }}
{{- end }}

{{/* A number as a person writes it: Helm reads all numbers as floating point, and would print 2.097152e+06. */}}
{{- define "platform.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end }}

{{/* A file of the chart with its values filled in. Takes (dict "root" $ "file" PATH). */}}
{{- define "platform.file" -}}
{{- tpl (.root.Files.Get .file) .root -}}
{{- end }}

{{- define "platform.kafka.served" -}}
{{- $versions := .Capabilities.APIVersions -}}
{{- if $versions.Has "kafka.strimzi.io/v1/Kafka" }}kafka.strimzi.io/v1
{{- else if $versions.Has "kafka.strimzi.io/v1beta2/Kafka" }}kafka.strimzi.io/v1beta2
{{- end }}
{{- end }}

{{/* strimzi or plain; nothing when there is no Kafka. A plain broker that is there stays, though Strimzi came later. */}}
{{- define "platform.kafka.mode" -}}
{{- if .Values.kafka.enabled -}}
{{- if ne .Values.kafka.mode "auto" }}{{ .Values.kafka.mode }}
{{- else if not (include "platform.kafka.served" .) }}plain
{{- else if lookup "apps/v1" "StatefulSet" .Release.Namespace "kafka" }}plain
{{- else }}strimzi
{{- end }}
{{- end }}
{{- end }}

{{- define "platform.kafka.bootstrap" -}}
{{- if .Values.kafka.enabled }}kafka-kafka-bootstrap.{{ .Release.Namespace }}:9092
{{- else }}{{ .Values.kafka.bootstrapServers }}
{{- end }}
{{- end }}

{{/* Copies of a partition, and how many of them must have a record before it counts as written. */}}
{{- define "platform.kafka.copies" -}}
{{ .Values.kafka.replicationFactor | default (min .Values.kafka.replicas 3) }}
{{- end }}
{{- define "platform.kafka.inSync" -}}
{{ max 1 (sub (int (include "platform.kafka.copies" .)) 1) }}
{{- end }}

{{- define "platform.postgresql.image" -}}
{{- $default := ternary (dict "repository" "timescale/timescaledb" "tag" "2.29.1-pg18") (dict "repository" "postgres" "tag" "18.1-alpine") .Values.postgresql.timescale -}}
{{- $given := .Values.postgresql.image -}}
{{- $image := dict "pullPolicy" $given.pullPolicy "repository" ($given.repository | default $default.repository) "tag" ($given.tag | default $default.tag) -}}
{{- include "platform.image" (dict "root" . "image" $image) -}}
{{- end }}

{{/* Name of the Secret with a component's passwords. Takes (dict "values" ... "component" NAME). */}}
{{- define "platform.secret" -}}
{{ .values.existingSecret | default (printf "%s-auth" .component) }}
{{- end }}

{{/*
A password, base64-encoded: the one that the Secret has already, else a new one.
Takes (dict "root" $ "secret" NAME "key" KEY). Without a cluster (`helm template`) nothing can be looked up, and every
rendering has other passwords.
*/}}
{{- define "platform.password" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret | default dict -}}
{{- $data := $found.data | default dict -}}
{{- get $data .key | default (randAlphaNum 32 | b64enc) -}}
{{- end }}

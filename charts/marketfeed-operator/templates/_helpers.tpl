{{/* Names and labels, and what several pods have in common. */}}

{{/* <release>-operator, or the release's name where it says so already. Room is left for the names made from it. */}}
{{- define "operator.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-operator" .Release.Name) (hasSuffix "operator" .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{- define "operator.account" -}}
{{- .Values.serviceAccount.name | default (include "operator.fullname" .) -}}
{{- end }}

{{/* What never changes over a release's life, and tells its pods from all others. */}}
{{- define "operator.selector" -}}
app.kubernetes.io/name: marketfeed-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: marketfeed
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* dict image, chart → repository:tag */}}
{{- define "operator.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .chart.AppVersion) -}}
{{- end }}

{{/* dict wanted (auto, true or false), api (group/version/Kind), root → "true" or "" */}}
{{- define "operator.wanted" -}}
{{- $wanted := toString .wanted -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") (.root.Capabilities.APIVersions.Has .api)) -}}true{{- end -}}
{{- end }}

{{/* A number as a person writes it: Helm reads all numbers as floating point, and would print 1e+06. */}}
{{- define "operator.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end }}

{{/* The operator's variables, sorted by name: those that have values of their own, and `settings`. */}}
{{- define "operator.variables" -}}
{{- $variables := dict
  "OPERATOR_SERVICES_IMAGE" (include "operator.image" (dict "image" .Values.services.image "chart" .Chart))
  "OPERATOR_ANALYTICS_IMAGE" (include "operator.image" (dict "image" .Values.analytics.image "chart" .Chart))
  "OPERATOR_IMAGE_PULL_POLICY" .Values.services.image.pullPolicy
  "OPERATOR_LOG_LEVEL" .Values.logLevel
-}}
{{- with .Values.bootstrapServers }}{{ $_ := set $variables "OPERATOR_BOOTSTRAP_SERVERS" . }}{{ end -}}
{{- with .Values.imagePullSecrets }}
{{- $names := list }}{{ range . }}{{ $names = append $names .name }}{{ end -}}
{{- $_ := set $variables "OPERATOR_IMAGE_PULL_SECRETS" (join "," $names) -}}
{{- end -}}
{{- with .Values.watchNamespaces }}
{{- $_ := set $variables "OPERATOR_WATCH_NAMESPACES" (join "," .) -}}
{{- $_ := set $variables "OPERATOR_TOPIC_NAMESPACES" (join "," $.Values.topicNamespaces) -}}
{{- end -}}
{{- range $name, $value := .Values.settings }}{{ $_ := set $variables $name (include "operator.text" $value) }}{{ end -}}
- name: OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: OPERATOR_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- range $name, $value := $variables }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* What every pod of ours says of itself: the restricted pod security standard. */}}
{{- define "operator.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "operator.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{/* Where a pod of ours may run; the same for the operator, its test and its hook. */}}
{{- define "operator.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the schema cannot say: every problem of the values as a sentence, all at once. */}}
{{- define "operator.validate" -}}
{{- $problems := list -}}
{{- $values := .Values -}}

{{- if lt (int $values.replicas) 1 }}
{{- $problems = append $problems (printf "replicas is %v: nobody would look after feeds. Write 1 or more; 2 let one take over from the other" $values.replicas) }}
{{- end }}

{{- range $path, $names := dict "watchNamespaces" $values.watchNamespaces "topicNamespaces" $values.topicNamespaces "networkPolicies.feedNamespaces" $values.networkPolicies.feedNamespaces "networkPolicies.monitoringNamespaces" $values.networkPolicies.monitoringNamespaces }}
{{- if ne (len $names) (len (uniq $names)) }}
{{- $problems = append $problems (printf "%s names a namespace twice: %s. Write each once" $path (join ", " $names)) }}
{{- end }}
{{- end }}

{{- range $values.networkPolicies.feedNamespaces }}
{{- if and $values.watchNamespaces (not (has . $values.watchNamespaces)) }}
{{- $problems = append $problems (printf "networkPolicies.feedNamespaces names %q, whose feeds are not looked after: add it to watchNamespaces, or take it out" .) }}
{{- end }}
{{- end }}

{{- if not (or $values.serviceAccount.create $values.serviceAccount.name) }}
{{- $problems = append $problems "serviceAccount.create is false and serviceAccount.name is empty: name the account that is there" }}
{{- end }}

{{- range $label, $_ := $values.podLabels }}
{{- if regexMatch "^(app[.]kubernetes[.]io|helm[.]sh)/" $label }}
{{- $problems = append $problems (printf "podLabels.%s is the chart's own: selectors and policies depend on it. Write a label of another name" $label) }}
{{- end }}
{{- end }}

{{- with $values.analytics.image.pullPolicy }}
{{- if ne . $values.services.image.pullPolicy }}
{{- $problems = append $problems (printf "analytics.image.pullPolicy is %s and services.image.pullPolicy is %s: the operator has one for both. Leave the first empty" . $values.services.image.pullPolicy) }}
{{- end }}
{{- end }}

{{- $monitoring := dict "podMonitor" "PodMonitor" "rules" "PrometheusRule" }}
{{- range $name, $kind := $monitoring }}
{{- $api := printf "monitoring.coreos.com/v1/%s" $kind }}
{{- if and (eq (toString (index $values $name).enabled) "true") (not ($.Capabilities.APIVersions.Has $api)) }}
{{- $problems = append $problems (printf "%s.enabled is true, but this cluster does not serve %s: install the Prometheus operator first, or write auto (for `helm template`: --api-versions %s)" $name $kind $api) }}
{{- end }}
{{- end }}

{{- if lt (int $values.settle.deadlineSeconds) (add (int $values.settle.timeoutSeconds) 30 | int) }}
{{- $problems = append $problems (printf "settle.deadlineSeconds is %v and settle.timeoutSeconds %v: its pod needs 30 s more than its work, for its start" $values.settle.deadlineSeconds $values.settle.timeoutSeconds) }}
{{- end }}

{{- $problems = concat $problems (fromJsonArray (include "operator.settingProblems" .)) }}
{{- if $problems }}
{{- fail (printf "\n\nThese values cannot work:\n- %s\n" (join "\n- " $problems)) }}
{{- end }}
{{- end }}

{{/* Problems of `settings`, as a JSON list. files/settings.yaml is generated from the operator's own code. */}}
{{- define "operator.settingProblems" -}}
{{- $problems := list -}}
{{- $known := .Files.Get "files/settings.yaml" | fromYaml -}}
{{- $taken := dict
  "OPERATOR_ANALYTICS_IMAGE" "analytics.image" "OPERATOR_SERVICES_IMAGE" "services.image"
  "OPERATOR_IMAGE_PULL_POLICY" "services.image.pullPolicy" "OPERATOR_IMAGE_PULL_SECRETS" "imagePullSecrets"
  "OPERATOR_WATCH_NAMESPACES" "watchNamespaces" "OPERATOR_TOPIC_NAMESPACES" "topicNamespaces"
  "OPERATOR_BOOTSTRAP_SERVERS" "bootstrapServers" "OPERATOR_LOG_LEVEL" "logLevel" -}}
{{- $fixed := list "OPERATOR_NAMESPACE" "OPERATOR_IDENTITY" "HTTP_HOST" "HTTP_PORT" -}}
{{- range $name, $value := .Values.settings -}}
{{- $text := include "operator.text" $value -}}
{{- if hasKey $taken $name }}
{{- $problems = append $problems (printf "settings.%s: write it as the value %s, which other parts of the chart follow" $name (get $taken $name)) }}
{{- else if has $name $fixed }}
{{- $problems = append $problems (printf "settings.%s is the chart's own: probes, policies and the Lease depend on it. Take it out" $name) }}
{{- else if not (hasKey $known $name) }}
{{- $nearest := include "operator.nearest" (dict "name" $name "names" (keys $known | sortAlpha)) }}
{{- $problems = append $problems (printf "settings.%s is no setting of the operator. Is %s meant (%s)? `marketfeed operator --help` lists all" $name $nearest (get (get $known $nearest) "help")) }}
{{- else }}
{{- $setting := get $known $name }}
{{- if eq $setting.kind "choice" }}
{{- if not (has $text $setting.choices) }}
{{- $problems = append $problems (printf "settings.%s is %q: write one of %s" $name $text (join ", " $setting.choices)) }}
{{- end }}
{{- else if ne $setting.kind "text" }}
{{- $pattern := ternary "^-?[0-9]+$" "^-?[0-9]+([.][0-9]+)?$" (eq $setting.kind "whole") }}
{{- if not (regexMatch $pattern $text) }}
{{- $problems = append $problems (printf "settings.%s is %q: write a %s, as %v (%s)" $name $text (ternary "whole number" "number" (eq $setting.kind "whole")) $setting.default $setting.help) }}
{{- else if and (hasKey $setting "minimum") (lt (float64 $text) (float64 $setting.minimum)) }}
{{- $problems = append $problems (printf "settings.%s is %s: write %v or more (%s)" $name $text $setting.minimum $setting.help) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/*
dict name, names → the one of `names` that shares the longest beginning and end with `name`: a single slip of the
finger leaves all but one letter in these two.
*/}}
{{- define "operator.nearest" -}}
{{- $name := .name -}}
{{- $best := -1 -}}
{{- $nearest := "" -}}
{{- range $other := .names -}}
{{- $most := min (len $name) (len $other) | int -}}
{{- $same := 0 -}}
{{- $going := true -}}
{{- range $at := until $most -}}
{{- if and $going (eq (substr $at (add1 $at | int) $name) (substr $at (add1 $at | int) $other)) }}{{ $same = add1 $same }}{{ else }}{{ $going = false }}{{ end -}}
{{- end -}}
{{- $left := sub $most $same | int -}}
{{- $going = true -}}
{{- range $back := until $left -}}
{{- $here := sub (len $name) $back | int }}{{ $there := sub (len $other) $back | int -}}
{{- if and $going (eq (substr (sub $here 1 | int) $here $name) (substr (sub $there 1 | int) $there $other)) }}{{ $same = add1 $same }}{{ else }}{{ $going = false }}{{ end -}}
{{- end -}}
{{- $score := sub (mul 2 $same) (add (len $other) (len $name)) | int -}}
{{- if or (eq $nearest "") (gt $score $best) }}{{ $best = $score }}{{ $nearest = $other }}{{ end -}}
{{- end -}}
{{- $nearest -}}
{{- end }}

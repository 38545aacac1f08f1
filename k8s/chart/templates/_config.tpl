{{/* A value as a variable's text: numbers of YAML files are floats in templates, and large ones would get an exponent. */}}
{{- define "roadstead.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{- printf "%.0f" . -}}{{- else -}}{{- toString . -}}{{- end -}}
{{- end -}}

{{/* Other names of variables. */}}
{{- define "roadstead.aliases" -}}
DATABASE_DSN: DATABASE_URL
REDIS_ADDR: REDIS_URL
META_BUCKET: META_BUCKET_NAME
CONTENT_BUCKET: CONTENT_BUCKET_NAME
K8S_NAMESPACE: KUBERNETES_NAMESPACE
JOB_TIMEOUT: JOB_TIMEOUT_SECONDS
{{- end -}}

{{/* `config`, by the variables' own names. What is empty counts as not set. */}}
{{- define "roadstead.given" -}}
{{- $aliases := include "roadstead.aliases" . | fromYaml -}}
{{- $given := dict -}}
{{- range $name, $value := .Values.config -}}
{{- $text := include "roadstead.text" (ternary "" $value (kindIs "invalid" $value)) -}}
{{- if $text -}}
{{- $own := get $aliases $name | default $name -}}
{{- if and (hasKey $given $own) (ne (get $given $own) $text) -}}
{{- fail (printf "config: %s is set by two names, with different values" $own) -}}
{{- end -}}
{{- $_ := set $given $own $text -}}
{{- end -}}
{{- end -}}
{{- toYaml $given -}}
{{- end -}}

{{/* A variable's duration in whole seconds, as in `1h30m` or `90`. */}}
{{- define "roadstead.seconds" -}}
{{- $seconds := 0 -}}
{{- range regexFindAll "[0-9]+ *[a-z]*" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- if ne $unit "ms" -}}
{{- $length := get (dict "m" 60 "h" 3600 "d" 86400 "w" 604800) (trunc 1 $unit) | default 1 -}}
{{- $seconds = add $seconds (mul (regexFind "[0-9]+" .) $length) -}}
{{- end -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/* Every variable that is no secret, for the api and the worker alike. */}}
{{- define "roadstead.variables" -}}
{{- $given := include "roadstead.given" . | fromYaml -}}
{{- $v := dict -}}
{{- $_ := set $v "LAUNCHER" "kubernetes" -}}
{{- $_ := set $v "MIGRATE_ON_START" "false" -}}
{{- if not (get $given "SERVER_ADDR") -}}
{{- $_ := set $v "API_HOST" "0.0.0.0" -}}
{{- $_ := set $v "API_PORT" "8080" -}}
{{- end -}}
{{- $_ := set $v "WORKER_HOST" "0.0.0.0" -}}
{{- $_ := set $v "API_URL" (printf "http://%s:%v" (include "roadstead.apiHost" .) .Values.service.api.port) -}}
{{- $_ := set $v "KUBERNETES_NAMESPACE" (.Values.executor.namespace | default .Release.Namespace) -}}
{{- $_ := set $v "NAMESPACE_POLICY" .Values.executor.namespacePolicy -}}
{{- $_ := set $v "WATCH_NAMESPACE" (join "," .Values.executor.watchNamespaces) -}}
{{- if kindIs "string" .Values.executor.image -}}
{{- $_ := set $v "EXECUTOR_IMAGE" .Values.executor.image -}}
{{- else -}}
{{- $_ := set $v "EXECUTOR_IMAGE" (include "roadstead.image" (dict "root" . "image" .Values.executor.image)) -}}
{{- $_ := set $v "EXECUTOR_IMAGE_PULL_POLICY" .Values.executor.image.pullPolicy -}}
{{- end -}}
{{- $_ := set $v "EXECUTOR_SERVICE_ACCOUNT" .Values.executor.serviceAccount.name -}}
{{- $_ := set $v "EXECUTOR_RUNTIME_CLASS" .Values.executor.runtimeClass -}}
{{- $v = merge $v (include "roadstead.amounts" (dict "executor" .Values.executor "value" "resources" "prefix" "JOB_") | fromYaml) -}}
{{- $v = merge $v (include "roadstead.amounts" (dict "executor" .Values.executor "value" "maxResources" "prefix" "JOB_MAX_") | fromYaml) -}}
{{- if .Values.executor.jobTemplate -}}
{{- $_ := set $v "JOB_TEMPLATE_FILE" "/etc/roadstead/job-template.yaml" -}}
{{- end -}}
{{- $_ := set $v "BASE_URL" (include "roadstead.baseUrl" .) -}}
{{- if not .Values.existingConfig.prefix -}}
{{- $_ := set $v "S3_REGION" .Values.s3.region -}}
{{- $_ := set $v "META_BUCKET_NAME" .Values.s3.metaBucket -}}
{{- $_ := set $v "CONTENT_BUCKET_NAME" .Values.s3.contentBucket -}}
{{- $_ := set $v "S3_PUBLIC_ENDPOINT" .Values.s3.publicEndpoint -}}
{{- if .Values.s3Internal.enabled -}}
{{- $_ := set $v "S3_ENDPOINT" (printf "http://%s-s3.%s.svc:%v" (include "roadstead.fullname" .) .Release.Namespace .Values.s3Internal.port) -}}
{{- $_ := set $v "S3_CREATE_BUCKETS" "true" -}}
{{- else -}}
{{- $_ := set $v "S3_ENDPOINT" .Values.s3.endpoint -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $given -}}
{{- if not (has $name (list "DATABASE_URL" "REDIS_URL" "S3_ACCESS_KEY_ID" "S3_SECRET_ACCESS_KEY")) -}}
{{- $_ := set $v $name $value -}}
{{- end -}}
{{- end -}}
{{- if eq (get $v "NAMESPACE_POLICY") "create" -}}
{{- if contains "%s" (get $v "KUBERNETES_NAMESPACE") -}}
{{- $v = merge $v (dict "NAMESPACE_OBJECTS_FILE" "/etc/roadstead/namespace-objects.yaml") -}}
{{- else -}}
{{- /* A single namespace is the chart's to make, or the release's own. */ -}}
{{- $_ := set $v "NAMESPACE_POLICY" "require" -}}
{{- end -}}
{{- end -}}
{{- $set := dict -}}
{{- range $name, $value := $v -}}
{{- with include "roadstead.text" $value -}}
{{- $_ := set $set $name . -}}
{{- end -}}
{{- end -}}
{{- toYaml $set -}}
{{- end -}}

{{/* Amounts as variables, from a flat list or a container's `limits`, in Kubernetes' spelling or a workflow's. (executor value prefix) */}}
{{- define "roadstead.amounts" -}}
{{- $flat := get .executor .value | default dict -}}
{{- if hasKey $flat "requests" -}}
{{- fail (printf "executor.%s.requests: an attempt requests what its limits are; leave `requests` out" .value) -}}
{{- end -}}
{{- $limits := $flat.limits | default dict -}}
{{ .prefix }}CPU: {{ include "roadstead.text" (coalesce $limits.cpu $flat.cpu | default "") | quote }}
{{ .prefix }}MEMORY: {{ include "roadstead.text" (coalesce $limits.memory $flat.memory | default "") | quote }}
{{ .prefix }}EPHEMERAL_STORAGE: {{ include "roadstead.text" (coalesce $limits.ephemeral_storage (get $limits "ephemeral-storage") $flat.ephemeral_storage (get $flat "ephemeral-storage") | default "") | quote }}
{{- end -}}

{{- define "roadstead.baseUrl" -}}
{{- if and .Values.ingress.api.enabled .Values.ingress.api.hosts -}}
{{- with (first .Values.ingress.api.hosts).host -}}
{{- printf "%s://%s" (ternary "https" "http" (not (empty $.Values.ingress.api.tls))) . -}}
{{- end -}}
{{- else if and .Values.gateway.enabled .Values.gateway.hostnames -}}
{{- printf "%s://%s" (ternary "http" "https" (and .Values.gateway.create (not .Values.gateway.tls.secretName))) (first .Values.gateway.hostnames) -}}
{{- end -}}
{{- end -}}

{{/* What existing ConfigMaps may say and must not, since this chart's objects depend on it: another name of a variable that is set, and what stands beside it. */}}
{{- define "roadstead.silenced" -}}
{{- $variables := include "roadstead.variables" . | fromYaml -}}
{{- $silenced := dict "KUBERNETES_ENABLED" "" "SERVER_ADDR" "" "API_HOST" "" "API_PORT" "" "METRICS_PORT" "" "WATCH_NAMESPACE" "" -}}
{{- range $alias, $own := include "roadstead.aliases" . | fromYaml -}}
{{- if hasKey $variables $own -}}{{- $_ := set $silenced $alias "" -}}{{- end -}}
{{- end -}}
{{- range $name, $value := $variables -}}{{- $_ := unset $silenced $name -}}{{- end -}}
{{- toYaml $silenced -}}
{{- end -}}

{{- define "roadstead.apiPort" -}}
{{- $variables := include "roadstead.variables" . | fromYaml -}}
{{- regexFind "[0-9]+$" (get $variables "SERVER_ADDR") | default (get $variables "API_PORT") -}}
{{- end -}}

{{/* The port of the API's metrics, where it is not that of everything else. */}}
{{- define "roadstead.apiMetricsPort" -}}
{{- $port := get (include "roadstead.variables" . | fromYaml) "METRICS_PORT" -}}
{{- if ne $port (include "roadstead.apiPort" .) -}}{{- $port -}}{{- end -}}
{{- end -}}

{{- define "roadstead.workerPort" -}}
{{- get (include "roadstead.variables" . | fromYaml) "METRICS_PORT" | default "9090" -}}
{{- end -}}

{{/*
Where attempts run: the template as it is, one namespace per tenant or not, whether the worker makes them or this chart the one, and the namespaces
that are known by name.
*/}}
{{- define "roadstead.jobs" -}}
{{- $variables := include "roadstead.variables" . | fromYaml -}}
{{- $template := get $variables "KUBERNETES_NAMESPACE" -}}
{{- $watched := list -}}
{{- range splitList "," (get $variables "WATCH_NAMESPACE" | default "") -}}
{{- with trim . -}}{{- $watched = append $watched . -}}{{- end -}}
{{- end -}}
{{- $perTenant := contains "%s" $template -}}
{{- $creates := eq (get $variables "NAMESPACE_POLICY") "create" -}}
{{- $isOwn := not (or $perTenant (eq $template .Release.Namespace)) -}}
{{- if and .Values.executor.createNamespace (not $isOwn) -}}
{{- fail "executor.createNamespace needs an executor.namespace of its own, without %s" -}}
{{- end -}}
{{- if and $watched (not $perTenant) (not (has $template $watched)) -}}
{{- fail (printf "executor.watchNamespaces must hold %s, the namespace of the Jobs (executor.namespace)" $template) -}}
{{- end -}}
{{- $policy := get (include "roadstead.given" . | fromYaml) "NAMESPACE_POLICY" | default .Values.executor.namespacePolicy -}}
template: {{ $template | quote }}
perTenant: {{ $perTenant }}
creates: {{ $creates }}
chartCreates: {{ and $isOwn (or .Values.executor.createNamespace (eq $policy "create")) }}
clusterWide: {{ or $creates (and $perTenant (not $watched)) }}
namespaces: {{ $watched | default (ternary list (list $template) $perTenant) | toJson }}
{{- end -}}

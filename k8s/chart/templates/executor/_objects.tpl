{{/* name and, in a namespace that is known, what else the chart says of its objects. (root name? namespace?) */}}
{{- define "roadstead.jobsMetadata" -}}
{{- if .namespace -}}
{{ include "roadstead.metadata" (dict "root" .root "component" "executor" "name" .name "namespace" .namespace) }}
{{- else -}}
name: {{ .name }}
{{- end -}}
{{- end -}}

{{/* What a namespace needs for attempts. Without a namespace: for the worker, which makes namespaces. (root namespace? isOwn: nothing but attempts runs there) */}}
{{- define "roadstead.jobsObjects" -}}
{{- $variables := include "roadstead.variables" .root | fromYaml -}}
{{- $executor := .root.Values.executor -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- $name := printf "%s-attempts" (include "roadstead.fullname" .root) -}}
{{- if or $executor.serviceAccount.create (not .namespace) }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "roadstead.jobsMetadata" (dict "root" .root "namespace" .namespace "name" (get $variables "EXECUTOR_SERVICE_ACCOUNT")) | nindent 2 }}
automountServiceAccountToken: false
{{- include "roadstead.pullSecrets" (dict "root" .root "secrets" $executor.imagePullSecrets) }}
{{- end }}
{{- if $policy.enabled }}
---
# Attempts run code that is not ours.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "roadstead.jobsMetadata" (dict "root" .root "namespace" .namespace "name" $name) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: roadstead-attempt
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "roadstead.toDns" .root | nindent 4 }}
    {{- if eq (get $variables "API_URL") (printf "http://%s:%v" (include "roadstead.apiHost" .root) .root.Values.service.api.port) }}
    {{- include "roadstead.toPods" (dict "root" .root "component" "api" "port" (include "roadstead.apiPort" .root)) | nindent 4 }}
    {{- else }}
    {{- include "roadstead.toUrl" (dict "url" (get $variables "API_URL") "defaultPort" (ternary 80 443 (hasPrefix "http://" (get $variables "API_URL")))) | nindent 4 }}
    {{- end }}
    {{- include "roadstead.toS3" (dict "root" .root "endpoint" (get $variables "S3_PUBLIC_ENDPOINT" | default (get $variables "S3_ENDPOINT")) "unknownPorts" (list 443 9000)) | nindent 4 }}
    {{- with $policy.attemptsExtraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- if .isOwn }}
{{- with $executor.resourceQuota }}
---
apiVersion: v1
kind: ResourceQuota
metadata:
  {{- include "roadstead.jobsMetadata" (dict "root" $.root "namespace" $.namespace "name" $name) | nindent 2 }}
spec:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $executor.limitRange }}
---
apiVersion: v1
kind: LimitRange
metadata:
  {{- include "roadstead.jobsMetadata" (dict "root" $.root "namespace" $.namespace "name" $name) | nindent 2 }}
spec:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Files of the worker, by their names. */}}
{{- define "roadstead.workerFiles" -}}
{{- $files := dict -}}
{{- with .Values.executor.jobTemplate -}}
{{- $_ := set $files "job-template.yaml" (toYaml .) -}}
{{- end -}}
{{- if (include "roadstead.jobs" . | fromYaml).creates -}}
{{- $_ := set $files "namespace-objects.yaml" (include "roadstead.jobsObjects" (dict "root" . "isOwn" true) | trim) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

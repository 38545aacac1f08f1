{{/* Any address but link-local ones and those of clouds' metadata services elsewhere: Alibaba's; AWS's and Google's by IPv6. */}}
{{- define "roadstead.anywhere" -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [169.254.0.0/16, 100.100.100.200/32]
- ipBlock:
    cidr: ::/0
    except: [fe80::/10, fd00:ec2::254/128, fd20:ce::254/128]
{{- end -}}

{{/* Pods of a component, wherever the policy is. (root component) */}}
{{- define "roadstead.pods" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .root.Release.Namespace }}
  podSelector:
    matchLabels:
      {{- include "roadstead.selector" . | nindent 6 }}
{{- end -}}

{{/* The attempts' pods, in any namespace. */}}
{{- define "roadstead.attempts" -}}
- namespaceSelector: {}
  podSelector:
    matchLabels:
      app.kubernetes.io/name: roadstead-attempt
      app.kubernetes.io/managed-by: roadstead
{{- end -}}

{{/* One rule: these pods of ours, at this port. (root component port) */}}
{{- define "roadstead.toPods" -}}
- to:
    {{- include "roadstead.pods" . | nindent 4 }}
  ports:
    - port: {{ .port }}
{{- end -}}

{{/*
One rule for what a URL names: a literal address; the namespace of a cluster name, at any port since a Service's says nothing of its pods'; else any
address. A URL that is not known, or that names several hosts: any address and port. (url peers ports? defaultPort)
*/}}
{{- define "roadstead.toUrl" -}}
{{- $authority := regexReplaceAll "^[a-zA-Z0-9+.-]+://([^/?#]*@)?([^/?#]*).*$" .url "${2}" -}}
{{- $isKnown := and .url (not (contains "," $authority)) -}}
{{- $host := regexReplaceAll ":[0-9]+$" $authority "" | trimPrefix "[" | trimSuffix "]" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (toString .defaultPort) -}}
{{- $ports := .ports | default (ternary (list (int $port)) list (not (empty $isKnown))) -}}
{{- $namespace := regexReplaceAll "^[^.]+\\.([^.]+)\\.svc(\\..*)?$" $host "${1}" -}}
- to:
  {{- if .peers }}
    {{- toYaml .peers | nindent 4 }}
  {{- else if not $isKnown }}
    {{- include "roadstead.anywhere" . | nindent 4 }}
  {{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host }}
    - ipBlock:
        cidr: {{ $host }}/32
  {{- else if contains ":" $host }}
    - ipBlock:
        cidr: {{ $host }}/128
  {{- else if ne $namespace $host }}
    {{- $ports = .ports }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ $namespace }}
  {{- else }}
    {{- include "roadstead.anywhere" . | nindent 4 }}
  {{- end }}
  {{- with $ports }}
  ports:
    {{- range . }}
    - port: {{ . }}
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "roadstead.toDns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end -}}

{{/* PostgreSQL itself. */}}
{{- define "roadstead.toDatabase" -}}
{{- if eq (include "roadstead.database" . | fromYaml).from "internal" -}}
{{ include "roadstead.toPods" (dict "root" . "component" "postgresql" "port" 5432) }}
{{- else -}}
{{ include "roadstead.toUrl" (dict "url" (include "roadstead.databaseUrl" .) "peers" .Values.networkPolicy.database "defaultPort" 5432) }}
{{- end -}}
{{- end -}}

{{- define "roadstead.toRedis" -}}
{{- if eq (include "roadstead.redis" . | fromYaml).from "internal" -}}
{{ include "roadstead.toPods" (dict "root" . "component" "redis" "port" 6379) }}
{{- else -}}
{{- $url := include "roadstead.redisUrl" . -}}
{{- if and $url (not (contains "://" $url)) -}}{{- $url = printf "redis://%s" $url -}}{{- end -}}
{{ include "roadstead.toUrl" (dict "url" $url "peers" .Values.networkPolicy.redis "defaultPort" 6379) }}
{{- end -}}
{{- end -}}

{{/* (root endpoint unknownPorts?) */}}
{{- define "roadstead.toS3" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- $own := printf "http://%s-s3.%s.svc:%v" (include "roadstead.fullname" .root) .root.Release.Namespace .root.Values.s3Internal.port -}}
{{- if eq (toString .endpoint) $own -}}
{{ include "roadstead.toPods" (dict "root" .root "component" "s3" "port" .root.Values.s3Internal.port) }}
{{- else -}}
{{- $ports := $policy.s3Ports -}}
{{- if not .endpoint -}}{{- $ports = $ports | default .unknownPorts -}}{{- end -}}
{{ include "roadstead.toUrl" (dict "url" .endpoint "peers" $policy.s3 "ports" $ports "defaultPort" (ternary 80 443 (hasPrefix "http://" (toString .endpoint)))) }}
{{- end -}}
{{- end -}}

{{/* What the api and the worker both reach. */}}
{{- define "roadstead.toEverything" -}}
{{- $variables := include "roadstead.variables" . | fromYaml -}}
{{- $policy := .Values.networkPolicy -}}
{{ include "roadstead.toDns" . }}
{{- if .Values.pgbouncer.enabled }}
{{ include "roadstead.toPods" (dict "root" . "component" "pgbouncer" "port" 6432) }}
{{- else }}
{{ include "roadstead.toDatabase" . }}
{{- end }}
{{ include "roadstead.toRedis" . }}
{{ include "roadstead.toS3" (dict "root" . "endpoint" (get $variables "S3_ENDPOINT")) }}
# The cluster's API server{{ if eq (include "roadstead.s3" . | fromYaml).from "identity" }}, and where a workload identity becomes S3's keys{{ end }}.
- to:
    {{- if $policy.kubernetesApi }}
    {{- toYaml $policy.kubernetesApi | nindent 4 }}
    {{- else }}
    {{- include "roadstead.anywhere" . | nindent 4 }}
    {{- end }}
  ports:
    {{- range $policy.kubernetesApiPorts }}
    - port: {{ . }}
    {{- end }}
{{- if and $policy.kubernetesApi (eq (include "roadstead.s3" . | fromYaml).from "identity") }}
- to:
    {{- include "roadstead.anywhere" . | nindent 4 }}
  ports:
    - port: 443
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

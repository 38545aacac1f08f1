{{/* Pull secrets, the global ones first; each is a name or an object with one. (root secrets) */}}
{{- define "roadstead.pullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.root.Values.global.imagePullSecrets | default list) (.secrets | default list) -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $secrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What says where a pod runs, of a component's values. (root values component) */}}
{{- define "roadstead.scheduling" -}}
{{- include "roadstead.pullSecrets" (dict "root" .root "secrets" .values.imagePullSecrets) }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
{{- $constraints := list }}
{{- range . }}
{{- $constraints = append $constraints (merge (dict) . (dict "labelSelector" (dict "matchLabels" (include "roadstead.selector" $ | fromYaml)))) }}
{{- end }}
topologySpreadConstraints:
  {{- toYaml $constraints | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A probe of a component's values, none if they have none; HTTP unless another handler is given. (name probe path port) */}}
{{- define "roadstead.probe" -}}
{{- with .probe -}}
{{- $probe := deepCopy . -}}
{{- if not (or (hasKey $probe "httpGet") (hasKey $probe "exec") (hasKey $probe "tcpSocket") (hasKey $probe "grpc")) -}}
{{- $_ := set $probe "httpGet" (dict "path" $.path "port" $.port) -}}
{{- end -}}
{{- toYaml (dict $.name $probe) -}}
{{- end -}}
{{- end -}}

{{/* How a component's pods are replaced. The defaults' `rollingUpdate` is refused beside another type. (values) */}}
{{- define "roadstead.strategy" -}}
{{- $strategy := .values.deploymentStrategy | default dict -}}
{{- toYaml (ternary (omit $strategy "rollingUpdate") $strategy (eq (get $strategy "type") "Recreate")) -}}
{{- end -}}

{{/* Metadata of a pod, without the chart's version: it would replace every pod, the database's too. (root component values checksums?) */}}
{{- define "roadstead.podMetadata" -}}
labels:
  {{- include "roadstead.selector" . | nindent 2 }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.checksums | default dict) .values.podAnnotations .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The environment of the api, the worker and the migration: settings, then what is secret. (root values migrates?) */}}
{{- define "roadstead.environment" -}}
{{- /* No name twice: the API server warns of it, and server-side apply refuses it. */ -}}
{{- $aliases := include "roadstead.aliases" . | fromYaml -}}
{{- $extra := list -}}
{{- range .values.extraEnv -}}{{- $extra = append $extra (get $aliases .name | default .name) -}}{{- end -}}
envFrom:
  {{- with .root.Values.existingConfig.prefix }}
  - configMapRef:
      name: {{ . }}-api-config
  - configMapRef:
      name: {{ . }}-executor-config
  {{- end }}
  - configMapRef:
      name: {{ include "roadstead.fullname" .root }}-config
  {{- with .values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- range include "roadstead.secretEnvs" . | fromYamlArray }}
  {{- if not (has .name $extra) }}
  {{- list . | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- with .values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A rollout follows every change of what the pods were told. */}}
{{- define "roadstead.checksums" -}}
checksum/config: {{ include "roadstead.variables" . | sha256sum }}
checksum/secrets: {{ include "roadstead.secrets" . | sha256sum }}
{{- end -}}

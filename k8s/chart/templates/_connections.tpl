{{/* A password that is generated once and found again by later renderings: in this one's memory, or in the cluster. (root secret key given) */}}
{{- define "roadstead.kept" -}}
{{- $kept := get .root.Values "kept" | default dict -}}
{{- $id := printf "%s/%s" .secret .key -}}
{{- if not (hasKey $kept $id) -}}
{{- $value := .given -}}
{{- if not $value -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret | default dict -}}
{{- $value = get ($found.data | default dict) .key | b64dec | default (randAlphaNum 32) -}}
{{- end -}}
{{- $_ := set $kept $id $value -}}
{{- $_ := set .root.Values "kept" $kept -}}
{{- end -}}
{{- get $kept $id -}}
{{- end -}}

{{/* For a URL's user or password. */}}
{{- define "roadstead.encode" -}}
{{- urlquery . | replace "+" "%20" -}}
{{- end -}}

{{/* The way back: the path of a URL is what a template can decode. */}}
{{- define "roadstead.decode" -}}
{{- if . -}}{{- trimPrefix "/" (urlParse (printf "http://host/%s" .)).path -}}{{- end -}}
{{- end -}}

{{- define "roadstead.postgresqlPassword" -}}
{{- include "roadstead.kept" (dict "root" . "secret" (printf "%s-postgresql" (include "roadstead.fullname" .)) "key" "password" "given" .Values.postgresql.password) -}}
{{- end -}}

{{- define "roadstead.redisPassword" -}}
{{- include "roadstead.kept" (dict "root" . "secret" (printf "%s-redis" (include "roadstead.fullname" .)) "key" "password" "given" .Values.redis.password) -}}
{{- end -}}

{{- define "roadstead.s3AccessKey" -}}
{{- get (include "roadstead.given" . | fromYaml) "S3_ACCESS_KEY_ID" | default .Values.s3.accessKeyId | default "roadstead" -}}
{{- end -}}

{{- define "roadstead.s3SecretKey" -}}
{{- include "roadstead.kept" (dict "root" . "secret" (printf "%s-s3-keys" (include "roadstead.fullname" .)) "key" "secretKey" "given" (get (include "roadstead.given" . | fromYaml) "S3_SECRET_ACCESS_KEY" | default .Values.s3.secretAccessKey)) -}}
{{- end -}}

{{/* Where PostgreSQL's URL comes from: `internal`, `url` (this chart's Secret), or `secret` with its name and key. */}}
{{- define "roadstead.database" -}}
{{- $external := .Values.databaseExternal -}}
{{- if get (include "roadstead.given" . | fromYaml) "DATABASE_URL" -}}
from: url
{{- else if .Values.existingConfig.prefix -}}
from: secret
name: {{ .Values.existingConfig.prefix }}-db
key: DATABASE_URL
{{- else if and $external.enabled $external.urlFromExistingSecret.enabled -}}
from: secret
name: {{ required "databaseExternal.urlFromExistingSecret.name is missing" $external.urlFromExistingSecret.name }}
key: {{ $external.urlFromExistingSecret.key }}
{{- else if $external.enabled -}}
from: url
{{- else if .Values.postgresql.enabled -}}
from: internal
{{- else -}}
{{- fail "no PostgreSQL: set postgresql.enabled, databaseExternal.enabled or existingConfig.prefix" -}}
{{- end -}}
{{- end -}}

{{/* PostgreSQL's URL, where this chart knows it. */}}
{{- define "roadstead.databaseUrl" -}}
{{- $external := .Values.databaseExternal -}}
{{- $from := (include "roadstead.database" . | fromYaml).from -}}
{{- if eq $from "internal" -}}
{{- printf "postgres://roadstead:%s@%s-postgresql.%s.svc:5432/roadstead?sslmode=disable" (include "roadstead.encode" (include "roadstead.postgresqlPassword" .)) (include "roadstead.fullname" .) .Release.Namespace -}}
{{- else if eq $from "url" -}}
{{- $url := get (include "roadstead.given" . | fromYaml) "DATABASE_URL" | default $external.url -}}
{{- if $url -}}
{{- $url -}}
{{- else -}}
{{- $host := required "databaseExternal: set url, host or urlFromExistingSecret" $external.host -}}
{{- $user := include "roadstead.encode" $external.username -}}
{{- with $external.password -}}{{- $user = printf "%s:%s" $user (include "roadstead.encode" .) -}}{{- end -}}
{{- printf "postgres://%s@%s:%v/%s" $user (ternary (printf "[%s]" $host) $host (contains ":" $host)) $external.port (include "roadstead.encode" $external.database) -}}
{{- with $external.sslmode -}}?sslmode={{ . }}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* As for PostgreSQL. */}}
{{- define "roadstead.redis" -}}
{{- $external := .Values.redisExternal -}}
{{- if get (include "roadstead.given" . | fromYaml) "REDIS_URL" -}}
from: url
{{- else if .Values.existingConfig.prefix -}}
from: secret
name: {{ .Values.existingConfig.prefix }}-redis-secret
key: REDIS_URL
{{- else if and $external.enabled $external.urlFromExistingSecret.enabled -}}
from: secret
name: {{ required "redisExternal.urlFromExistingSecret.name is missing" $external.urlFromExistingSecret.name }}
key: {{ $external.urlFromExistingSecret.key }}
{{- else if $external.enabled -}}
from: url
{{- else if .Values.redis.enabled -}}
from: internal
{{- else -}}
{{- fail "no Redis: set redis.enabled, redisExternal.enabled or existingConfig.prefix" -}}
{{- end -}}
{{- end -}}

{{- define "roadstead.redisUrl" -}}
{{- $from := (include "roadstead.redis" . | fromYaml).from -}}
{{- if eq $from "internal" -}}
{{- printf "redis://:%s@%s-redis.%s.svc:6379" (include "roadstead.encode" (include "roadstead.redisPassword" .)) (include "roadstead.fullname" .) .Release.Namespace -}}
{{- else if eq $from "url" -}}
{{- get (include "roadstead.given" . | fromYaml) "REDIS_URL" | default .Values.redisExternal.url | required "redisExternal: set url or urlFromExistingSecret" -}}
{{- end -}}
{{- end -}}

{{/* Where S3's keys come from: `keys` (this chart's Secret), `secret`, or `identity` (the pods' own). */}}
{{- define "roadstead.s3" -}}
{{- $given := include "roadstead.given" . | fromYaml -}}
{{- if and .Values.s3Internal.enabled (not .Values.existingConfig.prefix) -}}
from: keys
internal: true
{{- else if or (get $given "S3_ACCESS_KEY_ID") (get $given "S3_SECRET_ACCESS_KEY") -}}
from: keys
{{- else if .Values.existingConfig.prefix -}}
from: secret
name: {{ .Values.existingConfig.prefix }}-s3
optional: true
{{- else if .Values.s3.existingSecret -}}
from: secret
name: {{ .Values.s3.existingSecret }}
optional: false
{{- else if or .Values.s3.accessKeyId .Values.s3.secretAccessKey -}}
from: keys
{{- else -}}
from: identity
{{- end -}}
{{- end -}}

{{/* Everything secret that this chart knows, by the variable's name. MIGRATION_DATABASE_URL goes past PgBouncer. */}}
{{- define "roadstead.secrets" -}}
{{- $given := include "roadstead.given" . | fromYaml -}}
{{- $secrets := dict -}}
{{- with include "roadstead.databaseUrl" . -}}
{{- $_ := set $secrets "MIGRATION_DATABASE_URL" . -}}
{{- $_ := set $secrets "DATABASE_URL" (ternary (include "roadstead.pgbouncerUrl" $) . $.Values.pgbouncer.enabled) -}}
{{- end -}}
{{- with include "roadstead.redisUrl" . -}}
{{- $_ := set $secrets "REDIS_URL" . -}}
{{- end -}}
{{- $s3 := include "roadstead.s3" . | fromYaml -}}
{{- if eq $s3.from "keys" -}}
{{- if $s3.internal -}}
{{- $_ := set $secrets "S3_ACCESS_KEY_ID" (include "roadstead.s3AccessKey" .) -}}
{{- $_ := set $secrets "S3_SECRET_ACCESS_KEY" (include "roadstead.s3SecretKey" .) -}}
{{- else -}}
{{- $_ := set $secrets "S3_ACCESS_KEY_ID" (get $given "S3_ACCESS_KEY_ID" | default .Values.s3.accessKeyId | required "s3.accessKeyId is missing, but s3.secretAccessKey is set") -}}
{{- $_ := set $secrets "S3_SECRET_ACCESS_KEY" (get $given "S3_SECRET_ACCESS_KEY" | default .Values.s3.secretAccessKey | required "s3.secretAccessKey is missing, but s3.accessKeyId is set") -}}
{{- end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{/* PostgreSQL's URL, taken apart for PgBouncer. */}}
{{- define "roadstead.databaseParts" -}}
{{- $url := include "roadstead.databaseUrl" . -}}
{{- if not $url -}}
{{- fail "pgbouncer.enabled needs to know PostgreSQL: databaseExternal.url or its parts, not an existing Secret (a PgBouncer of yours can stand behind that Secret's URL)" -}}
{{- end -}}
{{- $parsed := urlParse $url -}}
{{- $authority := splitn ":" 2 $parsed.userinfo -}}
{{- $port := regexFind ":[0-9]+$" $parsed.host | trimPrefix ":" | default "5432" -}}
host: {{ regexReplaceAll ":[0-9]+$" $parsed.host "" | trimPrefix "[" | trimSuffix "]" | quote }}
port: {{ $port | quote }}
user: {{ include "roadstead.decode" $authority._0 | quote }}
password: {{ include "roadstead.decode" $authority._1 | quote }}
database: {{ trimPrefix "/" $parsed.path | default (include "roadstead.decode" $authority._0) | quote }}
sslmode: {{ regexFind "sslmode=[a-z-]+" $parsed.query | trimPrefix "sslmode=" | default "prefer" | quote }}
{{- end -}}

{{- define "roadstead.pgbouncerUrl" -}}
{{- $parts := include "roadstead.databaseParts" . | fromYaml -}}
{{- printf "postgres://%s:%s@%s-pgbouncer.%s.svc:6432/%s?sslmode=disable" (include "roadstead.encode" $parts.user) (include "roadstead.encode" $parts.password) (include "roadstead.fullname" .) .Release.Namespace (include "roadstead.encode" $parts.database) -}}
{{- end -}}

{{/* One environment variable from a Secret. (name secret key optional?) */}}
{{- define "roadstead.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}

{{/* The secret part of the api's and the worker's environment. (root migrates?) */}}
{{- define "roadstead.secretEnvs" -}}
{{- $own := printf "%s-connections" (include "roadstead.fullname" .root) -}}
{{- $database := include "roadstead.database" .root | fromYaml -}}
{{- $redis := include "roadstead.redis" .root | fromYaml -}}
{{- $s3 := include "roadstead.s3" .root | fromYaml -}}
{{- if eq $database.from "secret" -}}
{{- if .root.Values.pgbouncer.enabled -}}{{- $_ := include "roadstead.databaseParts" .root -}}{{- end -}}
{{ include "roadstead.secretEnv" (dict "name" "DATABASE_URL" "secret" $database.name "key" $database.key) }}
{{- else -}}
{{ include "roadstead.secretEnv" (dict "name" "DATABASE_URL" "secret" $own "key" (ternary "MIGRATION_DATABASE_URL" "DATABASE_URL" (.migrates | default false))) }}
{{- end }}
{{- if eq $redis.from "secret" }}
{{ include "roadstead.secretEnv" (dict "name" "REDIS_URL" "secret" $redis.name "key" $redis.key) }}
{{- else }}
{{ include "roadstead.secretEnv" (dict "name" "REDIS_URL" "secret" $own "key" "REDIS_URL") }}
{{- end }}
{{- range $name := list "S3_ACCESS_KEY_ID" "S3_SECRET_ACCESS_KEY" }}
{{- if eq $s3.from "secret" }}
{{ include "roadstead.secretEnv" (dict "name" $name "secret" $s3.name "key" $name "optional" $s3.optional) }}
{{- else if eq $s3.from "keys" }}
{{ include "roadstead.secretEnv" (dict "name" $name "secret" $own "key" $name) }}
{{- end }}
{{- end }}
{{- end -}}

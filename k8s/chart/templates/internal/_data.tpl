{{/* The volume `data` of a StatefulSet: a claim, or an emptyDir among the pod's other volumes. (root component values) */}}
{{- define "roadstead.dataClaim" -}}
{{- if .values.persistence.enabled -}}
volumeClaimTemplates:
  - metadata:
      name: data
      labels:
        {{- include "roadstead.selector" . | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .values.persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .values.persistence.size }}
{{- end -}}
{{- end -}}

{{- define "roadstead.dataVolume" -}}
{{- if not .values.persistence.enabled -}}
- name: data
  emptyDir:
    sizeLimit: {{ .values.persistence.size }}
{{- end -}}
{{- end -}}

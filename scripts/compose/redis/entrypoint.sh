#!/bin/sh
# The part of the upstream entrypoint that this stack uses: arguments alone are redis-server's; no protected mode; the step down
# from root, with an empty bounding set.
set -eu
case $1 in -*) set -- redis-server "$@" ;; esac
[ "$1" != redis-server ] || set -- "$@" --protected-mode no
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  chown redis /data
  exec setpriv --reuid=redis --regid=redis --clear-groups --nnp --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"
fi
exec "$@"

#!/bin/sh
# The part of the upstream entrypoint that docker-compose.yml uses: the step down from root, with an empty bounding set.
set -eu
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  chown redis /data
  exec setpriv --reuid=redis --regid=redis --clear-groups --nnp --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
    "$@" --protected-mode no
fi
exec "$@"

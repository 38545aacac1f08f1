#!/bin/sh
# As upstream: the arguments are versitygw's.
exec /usr/local/bin/versitygw "$@"

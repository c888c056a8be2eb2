#!/bin/sh
[ "${1#-}" = "$1" ] || set -- mongod "$@"
exec "$@"

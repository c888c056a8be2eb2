#!/bin/sh
[ "$1" = valkey-server ] && set -- "$@" --protected-mode no
exec "$@"

#!/bin/sh
# Start a Valkey or Redis server, or a sentinel, whose configuration is its own to change.
#
#   redis.sh server|sentinel NAME FIRST [OPTION…]
#
# NAME is what others call it, FIRST the server that is the primary until the first failover. The copy
# in /data is made once: a failover writes into it who the primary is, and a restart must go by that.
set -eu
kind=$1 name=$2 first=$3
shift 3
from=$(dirname "$0") data=${DATA:-/data}
copy=$data/$kind.conf
if [ ! -s "$copy" ]; then
  sed -e "s/NAME/$name/" -e "s/FIRST/$first/" "$from/$kind.conf" >"$copy.part"
  if [ "$kind" = server ] && [ "$name" != "$first" ]; then
    echo "replicaof $first 6379" >>"$copy.part"
  fi
  mv "$copy.part" "$copy"
fi
[ "$kind" = server ] || set -- --sentinel "$@"
cd "$data"
exec valkey-server "$copy" "$@"

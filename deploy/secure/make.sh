#!/bin/sh
# Certificates and passwords for `docker compose --profile secure up`, into a folder that git ignores.
#
#   make.sh [FOLDER]
#
# What is there is kept. To have something anew, delete it and run this again: */server.pem and
# bank/client.pem are the certificates, ca.pem the CA (and then all of them), */password the passwords.
set -eu
umask 077
made=${1:-$(dirname "$0")/made}
days=397
mkdir -p "$made/bank"
cd "$made"

random() { openssl rand -hex 24; }
new_key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

if [ ! -s ca.pem ]; then
  # shellcheck disable=SC2086
  openssl req -x509 $new_key -keyout ca.key -out ca.pem -days 3650 -subj "/O=bank/CN=bank CA" \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
  rm -f ./*/server.pem bank/client.pem
fi

# signed FOLDER FILE EXTENSION…: a key and a certificate, and both in one file
signed() {
  folder=$1 file=$2
  shift 2
  [ -s "$folder/$file.pem" ] && return
  # shellcheck disable=SC2086
  openssl req -new $new_key -keyout "$folder/$file.key" -subj "/O=bank/CN=$folder" -out request
  printf '%s\n' "basicConstraints=CA:FALSE" "keyUsage=critical,digitalSignature" \
    "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" "$@" >extensions
  openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" \
    -extfile extensions -out "$folder/$file.crt"
  cat "$folder/$file.crt" "$folder/$file.key" >"$folder/$file.pem"
  rm request extensions
}

# server NAME: what it needs, and what the bank needs of it
server() {
  name=$1
  mkdir -p "$name"
  [ -s "$name/password" ] || random >"$name/password"
  signed "$name" server "extendedKeyUsage=serverAuth,clientAuth" \
    "subjectAltName=DNS:secure-$name,DNS:$name,DNS:localhost,IP:127.0.0.1"
  cp ca.pem "$name/ca.pem"
  cp "$name/password" "bank/${name}_password"
}

# own FOLDER USER: in a container it is another one that reads
own() { [ "$(id -u)" != 0 ] || chown -R "$2" "$1"; }

for name in mongodb nats redis elasticsearch; do server "$name"; done
signed bank client "extendedKeyUsage=clientAuth"
cp ca.pem bank/ca.pem

# MongoDB: the members of a replica set know one another by a secret of their own.
[ -s mongodb/members ] || random >mongodb/members
chmod 400 mongodb/members

# NATS: one user, who may publish and hear what docs/security.md lists.
cat >nats/authorization.conf <<CONF
authorization {
  users: [{
    user: bank
    password: "$(cat nats/password)"
    permissions: {
      publish: [
        "\$JS.API.>", "\$JS.ACK.>", "\$JS.FC.>", "\$KV.>"
        "balance.*", "audit.*", "happenings.*", "bank-activity-changelog.>"
        "bank.news.*", "bank.written.>", "bank.instances", "bank.instances.ended"
      ]
      subscribe: [
        "_INBOX.>"
        "\$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.>"
        "\$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED.>"
        "bank.news.*", "bank.written.>", "bank.instances", "bank.instances.ended"
      ]
      allow_responses: true
    }
  }]
}
CONF

# Valkey: one user, who reaches the bank's keys and can't empty it.
printf 'user default off\nuser bank on ~bank:* +@all -@admin -@dangerous #%s\n' \
  "$(tr -d '\n' <redis/password | openssl dgst -sha256 -r | cut -d ' ' -f 1)" >redis/users.acl

own mongodb 999:999
own redis 999:1000
own elasticsearch 1000:0
own bank 10001:10001

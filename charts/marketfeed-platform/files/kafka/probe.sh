#!/bin/bash
# Asks the broker on this machine which requests it knows (ApiVersions, version 0) and fails unless it answers without an
# error. No Java is started for it: a probe would cost more processor time than the broker.
# Wire format: kafka.apache.org/protocol; length, key 18, version 0, correlation id 42, no client id.
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/${KAFKA_PORT:-9092}"
printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x2a\xff\xff' >&3
answer=$(head -c 10 <&3 | od -An -v -tx1 | tr -d ' \n')
[[ "${answer:8}" == 0000002a0000 ]] || {
    echo "the broker answered ${answer:-nothing} to ApiVersions" >&2
    exit 1
}

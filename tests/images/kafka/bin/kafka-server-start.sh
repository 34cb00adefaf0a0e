#!/usr/bin/env bash
# Becomes a broker: kafka-server-start.sh PROPERTIES [--override NAME=VALUE]...
set -euo pipefail
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms256M -Xmx1G}
exec "$(dirname "$0")/run-class.sh" kafka.Kafka "$@"

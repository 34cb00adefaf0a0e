#!/usr/bin/env bash
# Runs a class of Kafka's with the variables that Kafka's own scripts read: KAFKA_HEAP_OPTS, KAFKA_OPTS and so on.
set -euo pipefail
home=$(dirname "$(dirname "$(readlink -f "$0")")")
# Each of these is a list of options in one variable: to be split at blanks.
read -r -a options <<< "${KAFKA_HEAP_OPTS:--Xmx256M} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC} \
${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$home/config/log4j2.properties} ${KAFKA_OPTS:-}"
exec java -XX:-UsePerfData "${options[@]}" -cp "$home/libs/*" "$@"

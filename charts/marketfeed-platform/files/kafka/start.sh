#!/bin/sh
# Starts a Kafka broker that is its own controller (KRaft), with a storage folder that it formats the first time.
# Needs Kafka in /opt/kafka and a Java; becomes the broker, so that a signal to this process reaches it.
set -eu

home=${KAFKA_HOME:-/opt/kafka}
properties=${KAFKA_PROPERTIES:-/etc/kafka/server.properties}
data=$(sed -n 's/^log\.dirs=//p' "$properties")

if [ ! -f "$data/meta.properties" ]; then
    # Sixteen random bytes in the alphabet of Kafka's ids, without - and _: an id may not look like an option.
    cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c 1-22)
    "$home/bin/kafka-storage.sh" format --ignore-formatted --cluster-id "$cluster" --config "$properties"
fi

exec "$home/bin/kafka-server-start.sh" "$properties"

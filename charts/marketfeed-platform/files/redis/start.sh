#!/bin/sh
# Starts Redis with the configuration in REDIS_CONFIGURATION and the password in REDISCLI_AUTH, which goes by standard
# input: arguments can be read by others.
set -eu

exec redis-server - <<CONFIGURATION
$(cat "${REDIS_CONFIGURATION:-/etc/redis/redis.conf}")
requirepass $REDISCLI_AUTH
CONFIGURATION

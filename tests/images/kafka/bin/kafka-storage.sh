#!/usr/bin/env bash
# Formats a storage folder: kafka-storage.sh format --cluster-id ID --config PROPERTIES
set -euo pipefail
exec "$(dirname "$0")/run-class.sh" kafka.tools.StorageTool "$@"

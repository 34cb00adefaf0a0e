#!/usr/bin/env bash
# Remove the kind cluster that up.sh made: its nodes and its kubeconfig, and nothing else.
set -euo pipefail

# shellcheck source=manifests/kind/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<TEXT
Usage: manifests/kind/down.sh   (or: make kind-down)

Removes the kind cluster "$cluster" with all that it holds; asks nothing. KIND_CLUSTER names another one.
Docker's images, other clusters and other contexts stay as they are.
TEXT
}

remove() {
  if exists; then
    kind delete cluster --name "$cluster" --kubeconfig "$kubeconfig"
    echo "The kind cluster \"$cluster\" is removed. Docker's images, other clusters and other contexts are as they were."
  else
    echo "There is no kind cluster \"$cluster\": nothing to remove."
  fi
  rm -rf "$state"
}

case ${1:-} in
  "") ;;
  -h | --help) usage; exit 0 ;;
  *) refuse "\"$1\" is no option: see manifests/kind/down.sh --help." ;;
esac
require docker_problem kind_problem
remove

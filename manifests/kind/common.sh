# shellcheck shell=bash disable=SC2034 # its variables are for those who source it
# What up.sh and down.sh share: which cluster, where its files are, which tools there must be. To be sourced.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=manifests/kind/versions.env
. "$here/versions.env"

cluster=${KIND_CLUSTER:-marketfeed}

# The folder of what is fetched or kept between runs: the same rule as `marketfeed up` has.
cache() {
  if [ -n "${MARKETFEED_CACHE:-}" ]; then
    printf '%s\n' "$MARKETFEED_CACHE"
  elif [ "$(id -u)" = 0 ]; then
    printf '/var/cache/marketfeed\n'
  else
    printf '%s/marketfeed\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
  fi
}

# refuse SENTENCE...: what is asked for cannot be done on this machine, or in these words.
refuse() {
  printf '%s\n' "$@" >&2
  exit 2
}

case $cluster in
  *[!a-z0-9.-]* | .*) refuse "KIND_CLUSTER is \"$cluster\": write lower-case letters, digits, dots and dashes." ;;
esac

state=$(cache)/kind/$cluster
# The cluster's kubeconfig is a file of its own, so that no other context is ever changed or made the current one.
kubeconfig=$state/kubeconfig

# at_least VERSION LEAST: compare as numbers, part by part.
at_least() {
  local one other part
  IFS=. read -r -a one <<<"$1"
  IFS=. read -r -a other <<<"$2"
  for part in 0 1 2; do
    ((10#${one[part]:-0} > 10#${other[part]:-0})) && return 0
    ((10#${one[part]:-0} < 10#${other[part]:-0})) && return 1
  done
  return 0
}

# number COMMAND...: the first version number that the command prints, or nothing.
number() {
  { "$@" 2>/dev/null || true; } | sed -n '1s/^[^0-9]*\([0-9][0-9.]*\).*/\1/p'
}

# Each prints a sentence where something is missing, and nothing otherwise.
docker_problem() {
  if ! command -v docker >/dev/null; then
    echo "Docker is not installed: get Docker Engine or Docker Desktop from the Docker project, and start it."
  elif [ -z "$(number docker version --format '{{.Server.Version}}')" ]; then
    echo "Docker does not answer: start its engine, or give your account access to it (\`docker version\` says more)."
  fi
}

# tool_problem NAME LEAST WHERE COMMAND...
tool_problem() {
  local name=$1 least=$2 where=$3 found
  shift 3
  if ! command -v "$name" >/dev/null; then
    echo "$name is not installed: get $least or newer from $where."
    return
  fi
  found=$(number "$@")
  at_least "${found:-0}" "$least" || echo "$name is ${found:-of an unknown version}: get $least or newer from $where."
}

kind_problem() {
  tool_problem kind "$KIND_LEAST" "the kind project, or with Go: go install sigs.k8s.io/kind@v$KIND_LEAST" kind version
}

kubectl_problem() {
  tool_problem kubectl "$KUBECTL_LEAST" "the Kubernetes project (Install Tools)" kubectl version --client
}

helm_problem() {
  tool_problem helm "$HELM_LEAST" "the Helm project, or with Go: go install helm.sh/helm/v3/cmd/helm@v3.19.0" \
    helm version --short
}

# require CHECK...: refuse with every sentence that the checks print.
require() {
  local check problems=""
  for check in "$@"; do
    problems+=$("$check")
    problems=${problems:+${problems%$'\n'}$'\n'}
  done
  [ -z "$problems" ] || refuse "${problems%$'\n'}"
}

# set_to_yes VALUE: what an environment variable means
set_to_yes() {
  case $1 in
    "" | 0 | no | false) return 1 ;;
    *) return 0 ;;
  esac
}

# exists: is there a cluster of this name?
exists() {
  local clusters
  clusters=$(kind get clusters 2>/dev/null)
  case $'\n'$clusters$'\n' in
    *$'\n'"$cluster"$'\n'*) return 0 ;;
    *) return 1 ;;
  esac
}

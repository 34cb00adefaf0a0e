#!/usr/bin/env bash
# A kind cluster with all that a feed needs, and a feed: `make kind`.
# Every step looks at what is there and does the rest, so that a run can be stopped anywhere and started again.
# What does not live here: versions (versions.env), settings of the charts (values-*.yaml), the feed (binance-spot.yaml).
set -euo pipefail

# shellcheck source=manifests/kind/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

feed=${FEED:-$here/binance-spot.yaml}
feed_namespace=default
context=kind-$cluster
log=$state/up.log
creating=$state/creating     # is there while `kind create` works: what an interrupted one left is not a cluster
references=$state/references # the images that were built: on each line its name and its archive
patience=10m                 # of helm, with pulling images on a slow line
patience_s=600
steps=10
done_steps=0

usage() {
  cat <<TEXT
Usage: manifests/kind/up.sh   (or: make kind)

Leaves a kind cluster running with Strimzi, the Spark operator, Prometheus and Grafana, our two charts and a feed
of a simulated venue. Needs Docker, kind, kubectl and helm. Run it again after a change or an interruption: what is there stays.

Environment:
  KIND_CLUSTER=NAME     name of the cluster (now: $cluster)
  SKIP_SPARK=1          no Spark operator: feeds then run without analytics
  SKIP_MONITORING=1     no Prometheus and no Grafana
  FEED=FILE             the feed to apply (now: $feed)

manifests/kind/down.sh removes the cluster. Its kubeconfig is $kubeconfig:
your other contexts are neither used nor changed.
TEXT
}

# --- how a step runs ---

# step WHAT ADVICE COMMAND...: a line with what is done and its seconds; at a failure where, why and what next.
step() {
  local what=$1 advice=$2 began=$SECONDS status
  shift 2
  done_steps=$((done_steps + 1))
  printf '%d/%d %s ...' "$done_steps" "$steps" "$what"
  set +e # so that the subshell may keep -e for itself: a tested one would ignore it
  (set -e; "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  if [ "$status" -ne 0 ]; then
    printf ' failed\n'
    explain "$what" "$advice"
    exit 1
  fi
  printf ' %d s\n' $((SECONDS - began))
}

# skip WHAT WHY
skip() {
  done_steps=$((done_steps + 1))
  printf '%d/%d %s: left out (%s)\n' "$done_steps" "$steps" "$1" "$2"
}

explain() {
  {
    printf 'Step %d/%d, %s, failed. Its last lines:\n' "$done_steps" "$steps" "$1"
    tail -n 12 "$log" | sed 's/^/  /'
    printf '%s\nThen run it again: it goes on with this step. The whole output: %s\n' "$2" "$log"
  } >&2
}

# progress TEXT: below the line of the step that runs
progress() {
  printf '\n      %s ...' "$1" >&3
}

interrupted() {
  printf '\nStopped. Run it again: it goes on with this step. manifests/kind/down.sh removes the cluster.\n' >&2
  exit 130
}

# --- the cluster's own tools: never without its kubeconfig and its context ---

cluster_kubectl() {
  kubectl --kubeconfig "$kubeconfig" --context "$context" "$@"
}

# chart RELEASE NAMESPACE CHART OPTION...: install or upgrade it, and wait until its pods are ready.
chart() {
  local release=$1 namespace=$2 source=$3
  shift 3
  forget_interrupted "$release" "$namespace"
  helm upgrade --install "$release" "$source" --kubeconfig "$kubeconfig" --kube-context "$context" \
    --namespace "$namespace" --create-namespace --wait --timeout "$patience" "$@"
}

# A helm that was stopped leaves a release for ever "in progress". Its objects stay, and the next helm takes them over.
forget_interrupted() {
  local pending="status in (pending-install,pending-upgrade,pending-rollback)"
  cluster_kubectl --namespace "$2" delete secret --selector "owner=helm,name=$1,$pending"
}

# await_ready WHAT...: poll until the object is Ready; say on the way what it waits for.
await_ready() {
  local deadline=$((SECONDS + patience_s)) status message said=""
  while :; do
    status=$(condition status "$@")
    [ "$status" != True ] || return 0
    message=$(condition message "$@")
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "Not ready after $patience_s s: ${message:-nothing is said yet}"
      return 1
    fi
    if [ -n "$message" ] && [ "$message" != "$said" ]; then progress "$message"; said=$message; fi
    sleep 3
  done
}

# condition FIELD WHAT...: a field of the object's condition Ready
condition() {
  local field=$1
  shift
  cluster_kubectl get "$@" --output "jsonpath={.status.conditions[?(@.type==\"Ready\")].$field}"
}

# --- the steps ---

tools() {
  require docker_problem kind_problem kubectl_problem helm_problem
  [ -f "$feed" ] || refuse "FEED is \"$feed\": there is no such file."
  mkdir -p "$state"
  done_steps=1
  printf '1/%d tools: docker %s, kind %s, kubectl %s, helm %s\n' "$steps" \
    "$(number docker version --format '{{.Server.Version}}')" "$(number kind version)" \
    "$(number kubectl version --client)" "$(number helm version --short)"
  note_memory
}

note_memory() {
  local bytes
  bytes=$(number docker info --format '{{.MemTotal}}')
  if [ -n "$bytes" ] && [ "$bytes" -lt 7500000000 ]; then
    echo "     Docker has $((bytes / 1000000000)) GB of memory; all of this takes about 8. SKIP_SPARK=1 SKIP_MONITORING=1 takes less."
  fi
}

make_cluster() {
  if [ -e "$creating" ]; then # an earlier run was stopped in the middle: what it left has no end of its own
    kind delete cluster --name "$cluster" --kubeconfig "$kubeconfig"
    rm -f "$creating"
  fi
  exists || create_cluster
  kind export kubeconfig --name "$cluster" --kubeconfig "$kubeconfig"
  cluster_kubectl wait --for=condition=Ready nodes --all --timeout=180s
}

create_cluster() {
  touch "$creating"
  kind create cluster --name "$cluster" --config "$root/kind-config.yaml" --image "$KIND_NODE_IMAGE" \
    --kubeconfig "$kubeconfig" --wait 180s
  rm -f "$creating"
}

make_namespaces() {
  local namespace
  for namespace in kafka marketfeed; do # before the charts that name them: an operator is told where to watch
    cluster_kubectl get namespace "$namespace" || cluster_kubectl create namespace "$namespace"
  done
}

install_strimzi() {
  chart strimzi strimzi strimzi-kafka-operator --repo "$STRIMZI_REPOSITORY" --version "$STRIMZI_VERSION" \
    --values "$here/values-strimzi.yaml"
}

install_spark() {
  chart spark-operator spark spark-operator --repo "$SPARK_REPOSITORY" --version "$SPARK_VERSION" \
    --values "$here/values-spark.yaml"
}

install_monitoring() {
  chart monitoring monitoring kube-prometheus-stack --repo "$MONITORING_REPOSITORY" --version "$MONITORING_VERSION" \
    --values "$here/values-monitoring.yaml"
}

make_images() {
  local names=(operator services)
  set_to_yes "${SKIP_SPARK:-}" || names+=(analytics)
  make --no-print-directory -C "$root" setup
  PYTHONPATH=$root/tests "$root/.venv/bin/python" -m images build "${names[@]}" | tee "$references.new"
  # Of each image a line with its reference and, last, its archive.
  sed -n 's#^.*  \(localhost/marketfeed/[a-z]*:[^ ]*\)  \(.*\)$#\1 \2#p' "$references.new" >"$references"
  rm -f "$references.new"
  if [ "$(grep -c . "$references")" -ne "${#names[@]}" ]; then
    echo "These were to be built: ${names[*]}; what was built is not among the lines above."
    return 1
  fi
  load_images
}

load_images() {
  local reference archive
  while read -r reference archive; do
    progress "loading ${reference##*/}"
    kind load image-archive "$archive" --name "$cluster" </dev/null
  done <"$references"
}

# image VALUE NAME: options that set the image at this place of the values, where it was built
image() {
  local reference
  reference=$(grep "/$2:" "$references") || return 0
  reference=${reference%% *}
  printf -- '--set-string\n%s.repository=%s,%s.tag=%s\n' "$1" "${reference%:*}" "$1" "${reference##*:}"
}

install_platform() {
  local options=() option
  while read -r option; do options+=("$option"); done < <(image simulator.image services)
  chart platform kafka "$root/charts/marketfeed-platform" --values "$here/values-platform.yaml" ${options[@]+"${options[@]}"}
  await_ready kafka/kafka --namespace kafka
}

install_operator() {
  local options=() option
  while read -r option; do options+=("$option"); done < <(
    image image operator
    image services.image services
    image analytics.image analytics
  )
  chart marketfeed marketfeed "$root/charts/marketfeed-operator" --values "$here/values-operator.yaml" ${options[@]+"${options[@]}"}
  cluster_kubectl wait --for=condition=Established crd/marketfeeds.marketfeed.dev --timeout=60s
}

start_feed() {
  cluster_kubectl apply --namespace "$feed_namespace" --filename "$feed"
  if set_to_yes "${SKIP_SPARK:-}" && grep -q '^  analytics:' "$feed"; then # nobody is there who would run its job
    cluster_kubectl patch --namespace "$feed_namespace" --filename "$feed" --type merge \
      --patch '{"spec": {"analytics": {"enabled": false}}}'
  fi
  await_ready --namespace "$feed_namespace" --filename "$feed"
}

next_commands() {
  cat <<TEXT

Ready. The cluster's kubeconfig is a file of its own; your other contexts are as they were.
  export KUBECONFIG=$kubeconfig
  kubectl get marketfeeds
  kubectl describe marketfeeds
  kubectl get pods --all-namespaces
TEXT
  set_to_yes "${SKIP_MONITORING:-}" || cat <<'TEXT'
Grafana, at http://localhost:3000, user admin; the second command shows the password:
  kubectl --namespace monitoring port-forward service/monitoring-grafana 3000:80
  kubectl --namespace monitoring get secret monitoring-grafana --output jsonpath='{.data.admin-password}' | base64 --decode
TEXT
  echo "Remove it all: make kind-down"
}

main() {
  exec 3>&1
  umask 077 # kubeconfig and output are this account's alone
  tools
  trap interrupted INT TERM
  step "cluster \"$cluster\"" \
    "If the nodes do not come up, give Docker more memory, or remove the cluster: manifests/kind/down.sh." make_cluster
  step "namespaces" "Look at the cluster: kubectl --kubeconfig $kubeconfig get nodes." make_namespaces
  step "Strimzi $STRIMZI_VERSION" "Check that this machine reaches $STRIMZI_REPOSITORY." install_strimzi
  if set_to_yes "${SKIP_SPARK:-}"; then
    skip "Spark operator" "SKIP_SPARK"
  else
    step "Spark operator $SPARK_VERSION" "Check that this machine reaches $SPARK_REPOSITORY, or set SKIP_SPARK=1." install_spark
  fi
  if set_to_yes "${SKIP_MONITORING:-}"; then
    skip "Prometheus and Grafana" "SKIP_MONITORING"
  else
    step "Prometheus and Grafana (kube-prometheus-stack $MONITORING_VERSION)" \
      "Check that this machine reaches $MONITORING_REPOSITORY, or set SKIP_MONITORING=1." install_monitoring
  fi
  step "images, built and loaded" "Build them by themselves: make images." make_images
  step "platform: Kafka, database, simulator" \
    "Look at its pods: kubectl --kubeconfig $kubeconfig --namespace kafka get pods,kafka,pvc." install_platform
  step "operator" "Look at its pods: kubectl --kubeconfig $kubeconfig --namespace marketfeed describe pods." install_operator
  step "feed ${feed##*/}" "Ask what it waits for: kubectl --kubeconfig $kubeconfig describe marketfeeds." start_feed
  next_commands
}

case ${1:-} in
  "") main ;;
  -h | --help) usage ;;
  *) refuse "\"$1\" is no option: see manifests/kind/up.sh --help." ;;
esac

#!/bin/bash
# Starts what Spark's Kubernetes backend asks for: `driver ARGUMENTS...`, `executor`; anything else is run as it is.
# The variables are those that Spark sets in the pods that it makes.
set -euo pipefail

CLASSPATH_PARTS="${SPARK_CONF_DIR:-${SPARK_HOME}/conf}:${SPARK_HOME}/jars/*"
[[ -z ${SPARK_EXTRA_CLASSPATH:-} ]] || CLASSPATH_PARTS+=":${SPARK_EXTRA_CLASSPATH}"
[[ -z ${HADOOP_CONF_DIR:-} ]] || CLASSPATH_PARTS="${HADOOP_CONF_DIR}:${CLASSPATH_PARTS}"

# Spark numbers the options of an executor's Java: SPARK_JAVA_OPT_0, SPARK_JAVA_OPT_1, ...
java_options() {
  local number=0 name=SPARK_JAVA_OPT_0
  while [[ -v ${name} ]]; do
    OPTIONS+=("${!name}")
    number=$((number + 1))
    name=SPARK_JAVA_OPT_${number}
  done
}

# Splits what Spark asks a driver to run into options of spark-submit, the program and its arguments.
# Spark gives each option a value: --properties-file FILE --class NAME PROGRAM ARGUMENTS...
split_driver() {
  SUBMIT=(--conf "spark.driver.bindAddress=${SPARK_DRIVER_BIND_ADDRESS}"
    --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=${SPARK_DRIVER_BIND_ADDRESS}"
    --deploy-mode client)
  while [[ ${1:-} == --* && $# -gt 1 ]]; do
    [[ $1 == --class ]] || SUBMIT+=("$1" "$2")
    shift 2
  done
  PROGRAM=("$@")
}

case ${1:-} in
  driver)
    shift
    if [[ " $* " == *" org.apache.spark.deploy.PythonRunner "* ]]; then
      # Python comes first and starts Java, not the other way round: it gets the signals and ends in order, and its exit
      # code is the container's.
      split_driver "$@"
      printf -v PYSPARK_SUBMIT_ARGS '%q ' "${SUBMIT[@]}" pyspark-shell
      export PYSPARK_SUBMIT_ARGS
      set -- "${PYSPARK_DRIVER_PYTHON:-python3}" "${PROGRAM[0]#local://}" "${PROGRAM[@]:1}"
    else
      set -- "${SPARK_HOME}/bin/spark-submit" \
        --conf "spark.driver.bindAddress=${SPARK_DRIVER_BIND_ADDRESS}" \
        --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=${SPARK_DRIVER_BIND_ADDRESS}" \
        --deploy-mode client "$@"
    fi
    ;;
  executor)
    OPTIONS=()
    java_options
    set -- java "${OPTIONS[@]}" "-Xms${SPARK_EXECUTOR_MEMORY}" "-Xmx${SPARK_EXECUTOR_MEMORY}" \
      -cp "${CLASSPATH_PARTS}:${SPARK_DIST_CLASSPATH:-}:${PWD}" \
      org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
      --driver-url "${SPARK_DRIVER_URL}" \
      --executor-id "${SPARK_EXECUTOR_ID}" \
      --cores "${SPARK_EXECUTOR_CORES}" \
      --app-id "${SPARK_APPLICATION_ID}" \
      --hostname "${SPARK_EXECUTOR_POD_IP}" \
      --resourceProfileId "${SPARK_RESOURCE_PROFILE_ID}" \
      --podName "${SPARK_EXECUTOR_POD_NAME}"
    ;;
esac
exec tini -s -- "$@"

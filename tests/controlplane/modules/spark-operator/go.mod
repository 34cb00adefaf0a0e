module marketfeed.dev/controlplane/spark-operator

go 1.25.0

require github.com/kubeflow/spark-operator/v2 v2.3.0

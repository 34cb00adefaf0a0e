# The images of marketfeed, a target each: operator, services, analytics. Built by docker and by buildah alike.
#
#   docker build --target services --tag marketfeed/services .
#
# Everything that is installed is locked by hash. What builds stays behind: the images hold no pip and no compiler, run
# as an unprivileged user and write nowhere but to /tmp.

# Any Debian with a Python of 3.11 or newer and the authorities' certificates.
ARG BASE=python:3.12-slim
# The same with pip; some bases have it, and the images lose it again.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
# A mirror of the package index, where one is needed; pip reads it from the environment.
ARG PIP_INDEX_URL
# A secret `ca`, where one is given, takes the place of the system's authorities while packages are fetched.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_PROGRESS_BAR=off \
    PIP_ROOT_USER_ACTION=ignore \
    INTO="python3 -m pip --python /opt/marketfeed/bin/python install --quiet" \
    COMPILE="python3 -m compileall -q --invalidation-mode unchecked-hash"
COPY services/requirements-build.lock /locks/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv --without-pip /opt/build \
    && python3 -m pip --python /opt/build/bin/python install --quiet --require-hashes -r /locks/requirements-build.lock \
    && python3 -m venv --without-pip /opt/marketfeed

FROM build AS wheel
COPY pyproject.toml README.md LICENSE /source/
COPY operator /source/operator
COPY services /source/services
RUN python3 -m pip --python /opt/build/bin/python wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel /source

FROM build AS operator-build
COPY operator/requirements.lock /locks/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    ${INTO} --only-binary :all: --require-hashes -r /locks/requirements.lock
COPY --from=wheel /wheel /wheel
RUN ${INTO} --no-deps /wheel/*.whl && ${COMPILE} /opt/marketfeed

FROM build AS services-build
COPY services/requirements.lock /locks/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    ${INTO} --only-binary :all: --require-hashes -r /locks/requirements.lock
COPY --from=wheel /wheel /wheel
RUN ${INTO} --no-deps /wheel/*.whl && ${COMPILE} /opt/marketfeed

# Spark's reader of Kafka, by the code and the lock that fetch it for one machine.
FROM services-build AS connector
# A mirror of the repository of Java archives, where one is needed.
ARG MARKETFEED_MAVEN_URL
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    /opt/marketfeed/bin/python -m marketfeed.local.archives spark-kafka /jars

# Spark comes as a source package, which is built with what is locked beside it.
FROM build AS analytics-build
COPY services/requirements-analytics.lock /locks/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m pip --python /opt/build/bin/python wheel --quiet --no-build-isolation --require-hashes \
       --wheel-dir /wheels -r /locks/requirements-analytics.lock \
    && ${INTO} --no-index --no-deps /wheels/*.whl \
    && rm -r /wheels
COPY --from=wheel /wheel /wheel
COPY --from=connector /jars /jars
# Folders that Spark's pods mount over must be there: the root file system is read-only.
RUN ${INTO} --no-deps /wheel/*.whl && ${COMPILE} /opt/marketfeed \
    && spark=$(echo /opt/marketfeed/lib/python3.*/site-packages/pyspark) \
    && rm -rf "${spark}/examples" "${spark}/data" \
    && mkdir -p "${spark}/conf" "${spark}/work-dir" \
    && cp /jars/*.jar "${spark}/jars/" \
    && mv "${spark}" /opt/spark \
    && ln -s /opt/spark "${spark}"

FROM ${BASE} AS final
# Java asks who it runs as: the user has a name.
RUN { ! python3 -c 'import pip' 2> /dev/null || python3 -m pip uninstall --quiet --yes --root-user-action=ignore \
        pip setuptools wheel; } \
    && echo 'marketfeed:x:65532:' >> /etc/group \
    && echo 'marketfeed:x:65532:65532:marketfeed:/tmp:/usr/sbin/nologin' >> /etc/passwd
# Byte code was compiled beside the sources; there is nowhere to write it at run time.
ENV PATH=/opt/marketfeed/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="marketfeed"

FROM final AS operator
COPY --from=operator-build /opt/marketfeed /opt/marketfeed
COPY tests/images/sbom.py /usr/share/doc/marketfeed/sbom.py
RUN /opt/marketfeed/bin/python /usr/share/doc/marketfeed/sbom.py operator /usr/share/doc/marketfeed/sbom.cdx.json
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="marketfeed/operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.description="Keeps what a MarketFeed asks for: topics, ingestors, consumers, the Spark job"
USER 65532:65532
ENTRYPOINT ["marketfeed"]

FROM final AS services
COPY --from=services-build /opt/marketfeed /opt/marketfeed
COPY tests/images/sbom.py /usr/share/doc/marketfeed/sbom.py
RUN /opt/marketfeed/bin/python /usr/share/doc/marketfeed/sbom.py services /usr/share/doc/marketfeed/sbom.cdx.json
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="marketfeed/services" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.description="Ingests market data, stores it, proves that nothing is missing; simulates a venue"
USER 65532:65532
ENTRYPOINT ["marketfeed"]

FROM final AS analytics
# Debian's own default: 17 or 21, both of which Spark 4 runs on. It links manual pages into
# a folder that slim bases lack.
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update --quiet=2 \
    && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends default-jre-headless tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/*.log
COPY --from=analytics-build /opt/marketfeed /opt/marketfeed
COPY --from=analytics-build /opt/spark /opt/spark
COPY services/marketfeed/analytics/program.py /opt/marketfeed/analytics.py
COPY --chmod=755 tests/images/spark-entrypoint.sh /opt/entrypoint.sh
COPY tests/images/sbom.py /usr/share/doc/marketfeed/sbom.py
RUN /opt/marketfeed/bin/python /usr/share/doc/marketfeed/sbom.py analytics /usr/share/doc/marketfeed/sbom.cdx.json
ENV SPARK_HOME=/opt/spark \
    PYSPARK_PYTHON=/opt/marketfeed/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/marketfeed/bin/python
WORKDIR /opt/spark/work-dir
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="marketfeed/analytics" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.description="Spark with the marketfeed package, as driver and executors on Kubernetes"
USER 65532:65532
ENTRYPOINT ["/opt/entrypoint.sh"]

# An extension image for CloudNativePG: the files of the image pg_clip, without a server. Needs PostgreSQL 18 or newer.
#
#   docker build --build-arg PG_MAJOR=18 --tag pg_clip .
#   docker build --build-arg PG_MAJOR=18 --file docker/extension.Dockerfile --tag pg_clip-extension .
#
# The operator mounts it read-only as /extensions/pg_clip. pg_clip finds its models and ONNX Runtime there.
ARG IMAGE=pg_clip

FROM ${IMAGE} AS image

FROM scratch
ARG PG_MAJOR=18
COPY --from=image /usr/lib/postgresql/${PG_MAJOR}/lib/pg_clip.so /lib/
COPY --from=image /usr/lib/postgresql/${PG_MAJOR}/lib/pg_clip /lib/pg_clip
COPY --from=image /usr/share/postgresql/${PG_MAJOR}/extension/pg_clip* /share/extension/
COPY --from=image /usr/share/postgresql/${PG_MAJOR}/pg_clip/examples /share/pg_clip/examples
COPY --from=image /usr/local/share/pg_clip/models /share/pg_clip/models
COPY --from=image /usr/lib/postgresql/${PG_MAJOR}/bin/pgclip /bin/
COPY LICENSE /licenses/pg_clip/
USER 65532:65532

# PostgreSQL with pgvector and pg_clip, on the official image.
#
#   docker build --build-arg PG_MAJOR=17 --tag pg_clip .
#
# --build-arg MODEL=… adds a model to the image: any argument of `pgclip pull`.
# `make check-image` builds this image with buildah, on a replacement of the official images.
ARG PG_MAJOR=17
ARG POSTGRES_IMAGE=postgres:${PG_MAJOR}-bookworm
# One version of the Rust toolchain, as rustup installs it.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm

FROM ${RUST_IMAGE} AS rust
RUN rustup component add rustfmt

FROM ${POSTGRES_IMAGE} AS server
COPY docker/server.sh /usr/local/src/pg_clip/docker/
RUN /usr/local/src/pg_clip/docker/server.sh

FROM server AS build
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
WORKDIR /usr/local/src/pg_clip
# These files come before the sources, so that a change of the sources does not fetch everything again.
COPY Cargo.toml ./
COPY scripts scripts
RUN scripts/setup.sh "/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
COPY . .
ARG MODEL=
RUN docker/build.sh

FROM server
COPY --from=build /out /
VOLUME /var/lib/pg_clip/models
# The check uses TCP: while the database is initialized, the server listens only on its socket.
HEALTHCHECK --start-period=60s --interval=10s CMD ["pg_isready", "--quiet", "--host=localhost"]
ENTRYPOINT ["pg_clip-entrypoint.sh"]
CMD ["postgres"]

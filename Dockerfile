# PostgreSQL with pgvector and pg_clip, on the official image.
#
#   docker build --build-arg PG_MAJOR=17 --tag pg_clip .
#
# --build-arg MODEL=… bakes a model in: what `pgclip pull` takes.
# `make check-image` carries these steps out without a container engine; it knows the instructions that are used here.
ARG PG_MAJOR=17
ARG RUST_VERSION=1.95.0

# Rust of one version, by rustup.
FROM rust:${RUST_VERSION}-slim-bookworm AS rust
RUN rustup component add rustfmt

FROM postgres:${PG_MAJOR}-bookworm AS server
COPY docker/server.sh /usr/local/src/pg_clip/docker/
RUN /usr/local/src/pg_clip/docker/server.sh

FROM server AS build
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
WORKDIR /usr/local/src/pg_clip
# Before the sources, so that a change of them does not fetch everything again.
COPY Cargo.toml ./
COPY scripts scripts
RUN scripts/setup.sh "/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
COPY . .
ARG MODEL=
RUN docker/build.sh

FROM server
COPY --from=build /out /
VOLUME /var/lib/pg_clip/models
# Asks by TCP: while the database is initialized, the server answers on its socket only.
HEALTHCHECK --start-period=60s --interval=10s CMD ["pg_isready", "--quiet", "--host=localhost"]
ENTRYPOINT ["pg_clip-entrypoint.sh"]
CMD ["postgres"]

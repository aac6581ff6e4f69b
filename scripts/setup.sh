# Sourced by `quickstart` and `test`: installs what is missing and leaves `$venv` ready. Run again, it costs nothing.
#
# ffmpeg and Python's venv module come from the system's package manager, everything else from pip into .venv.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${OMNIRT_VENV:-$root/.venv}

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        say "This needs root: $*"
        say "Run it as root, then run this script again."
        return 1
    fi
}

apt_updated=
apt_install() {
    if ! command -v apt-get >/dev/null 2>&1; then
        say "Missing: $*. Install it with your system's package manager, then run this script again."
        return 1
    fi
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq || return 1
        apt_updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >&2
}

require_system() {
    if ! command -v ffmpeg >/dev/null 2>&1 || ! command -v ffprobe >/dev/null 2>&1; then
        apt_install ffmpeg || return 1
    fi
    if ! command -v python3 >/dev/null 2>&1; then
        apt_install python3 python3-venv || return 1
    fi
    if ! python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
        say "python3 is $(python3 --version 2>&1); OmniRT needs 3.10 to 3.13. Put one first on PATH."
        return 1
    fi
    if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
        apt_install python3-venv || return 1
    fi
}

# install_package EXTRAS: the package, editable, with its extras; skipped while pyproject.toml has not changed.
install_package() {
    local extras=$1 stamp=$venv/.omnirt-installed wanted
    wanted="$extras $(sha256sum <"$root/pyproject.toml")"
    if [ -x "$venv/bin/omnirt" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || return 1
    say "Installing OmniRT into $venv ..."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root$extras" >&2 || return 1
    printf '%s' "$wanted" >"$stamp"
}

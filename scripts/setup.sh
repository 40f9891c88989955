#!/usr/bin/env bash
# Makes .venv with the pinned, hash-checked packages, and installs the system packages that are missing.
#
#   scripts/setup.sh [--tests] [PYTHON]
#
# --tests  also the programs that only the tests use
# PYTHON   the interpreter to build .venv with; without it an existing .venv stays, else the first that fits
#
# Run again it costs nothing: .venv remembers a hash of everything that it came from.
# HARDWALLET_NO_SYSTEM=1 leaves system packages alone.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=no
if [ "${1:-}" = --tests ]; then
    tests=yes
    shift
fi
wanted=${1:-}
wanted=${wanted/#\~/$HOME}

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Several makes may run at once in one checkout; only one of them sets up.
if have flock; then
    exec 9>.setup.lock
    flock 9
fi

# ------------------------------------------------------------------------------------------- the interpreter

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }
identity() { "$1" -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])' 2>/dev/null; }
makes_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
has_headers() {
    "$1" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))'
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if have "$candidate" && fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Prints the packages that the interpreter lacks. Only the distribution's own is split into packages.
missing_for_python() {
    local real
    real=$("$1" -c 'import os, sys; print(os.path.realpath(sys.base_prefix + "/bin/python3"))')
    case $real in /usr/bin/python3.*) ;; *) return 0 ;; esac
    makes_venv "$1" || echo "${real##*/}-venv"
    has_headers "$1" || echo "${real##*/}-dev"
}

# ------------------------------------------------------------------------------------------- system packages

# A plain user's PATH does not hold the folders of daemons.
daemon() { have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/usr/local/sbin/$1" ]; }
header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]; }
pcsc_headers() { header PCSC/winscard.h || { have pkg-config && pkg-config --exists libpcsclite; }; }
compiler() { { have gcc || have cc; } && header stdio.h; }
vpcd_driver() {
    local root
    for root in /usr/lib /usr/lib64 /usr/local/lib; do
        compgen -G "$root/pcsc/drivers/serial/libifdvpcd.so*" && return
        compgen -G "$root/*/pcsc/drivers/serial/libifdvpcd.so*" && return
    done >/dev/null
    return 1
}
libusb() { { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q 'libusb-1\.0\.so\.0'; }

# Prints the Debian names of what is missing: PC/SC, what builds pyscard, what the demo runs.
missing_packages() {
    [ "$(uname -s)" = Linux ] || return 0
    daemon pcscd || echo pcscd
    pcsc_headers || echo libpcsclite-dev
    vpcd_driver || echo vsmartcard-vpcd
    compiler || echo gcc libc6-dev
    have pkg-config || echo pkg-config
    libusb || echo libusb-1.0-0
    have openssl || echo openssl
    { have unshare && have setpriv; } || echo util-linux
    [ $tests = yes ] || return 0
    have opensc-tool || echo opensc
    have tmux || echo tmux
    have jq || echo jq
    have chromium || have chromium-browser || echo chromium
    compgen -G "/usr/share/fonts/opentype/noto/NotoSansCJK*" >/dev/null || echo fonts-noto-cjk
}

sudo=
can_install() {
    [ "${HARDWALLET_NO_SYSTEM:-}" != 1 ] && have apt-get || return 1
    [ "$(id -u)" = 0 ] && return
    have sudo && sudo -n true 2>/dev/null || return 1
    sudo='sudo -n'
}

apt() {
    # Nothing may ask; and needrestart, on Ubuntu, must not restart services that are not ours.
    $sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}
offered() { [ -n "$(apt-cache madison "$1" 2>/dev/null)" ]; }

# Installs what the package sources offer of the named packages. PYTHON stands for an interpreter that fits.
install_packages() {
    local package version packages=
    say "installing system packages: ${*/PYTHON/Python} (apt-get install --no-install-recommends)"
    apt update || say "apt-get update failed; going on with the package lists that are here"
    for package; do
        if [ "$package" = PYTHON ]; then
            for version in 3.13 3.12 3.11; do
                offered python$version && packages+=" python$version python$version-venv python$version-dev" && break
            done
        elif offered "$package"; then
            packages+=" $package"
        else
            say "the package sources of this system do not offer $package"
        fi
    done
    # shellcheck disable=SC2086 # a list
    [ -z "$packages" ] || apt install --yes --no-install-recommends $packages || say "apt-get install failed"
}

# The one command that installs the named packages here, as far as this script knows the system.
command_for() {
    local names=$* prefix
    names=${names/PYTHON/python3.12 python3.12-venv python3.12-dev}
    prefix=$([ "$(id -u)" = 0 ] || echo 'sudo ')
    if have apt-get; then
        echo "${prefix}apt-get update && ${prefix}apt-get install --yes --no-install-recommends $names"
    elif have dnf; then
        echo "${prefix}dnf install $(echo "$names" | sed -E 's/\bpcscd\b/pcsc-lite/; s/libpcsclite-dev/pcsc-lite-devel/;
            s/vsmartcard-vpcd//; s/libc6-dev/glibc-devel/; s/pkg-config/pkgconf-pkg-config/; s/libusb-1.0-0/libusb1/;
            s/iproute2/iproute/; s/python3.12-venv//; s/-dev\b/-devel/' | tr -s ' \n' ' ')"
    elif have pacman; then
        echo "${prefix}pacman -S --needed $(echo "$names" | sed -E 's/\bpcscd\b/pcsclite/; s/libpcsclite-dev/pcsclite/;
            s/vsmartcard-vpcd//; s/libc6-dev/glibc/; s/pkg-config/pkgconf/; s/libusb-1.0-0/libusb/;
            s/python3.12.*/python/' | tr -s ' \n' ' ')"
    else
        echo "the package manager of this system, for what Debian calls: $names"
    fi
}

# ---------------------------------------------------------------------------------------------- what is there

venv=.venv
venv_python=$venv/bin/python
python=$wanted
[ -n "$python" ] || python=$(find_python) || python=

if [ -n "$wanted" ] && ! have "$wanted"; then
    say "there is no program $wanted; give PYTHON=/path/to/python3"
    exit 1
elif [ -n "$wanted" ] && ! fits "$wanted"; then
    say "$wanted is not Python 3.11, 3.12 or 3.13"
    exit 1
fi

make_venv=yes
if [ -x $venv_python ] && [ "$(cat $venv/.setup-place 2>/dev/null)" = "$PWD" ]; then
    if [ -z "$wanted" ] || [ "$(identity "$wanted")" = "$(identity $venv_python)" ]; then
        make_venv=no
    fi
fi

pyscard_built() { compgen -G "$venv/lib/python3*/site-packages/smartcard/scard/*.so" >/dev/null; }
look() {
    missing_packages
    if [ $make_venv = yes ]; then
        if [ -n "$python" ]; then missing_for_python "$python"; else echo PYTHON; fi
    elif ! pyscard_built; then
        missing_for_python $venv_python
    fi
}
list() { look | tr -s '\n ' '  ' | sed 's/ $//'; }

# What could not be installed once is not tried again at every make.
missing=$(list)
tried=$venv/.setup-tried
if [ -n "$missing" ] && ! grep -qsxF -- "$missing" $tried && can_install; then
    # shellcheck disable=SC2086 # a list
    install_packages $missing
    [ -n "$python" ] || python=$(find_python) || python=
    missing=$(list)
fi
if [ -n "$missing" ]; then
    say "missing on this system: ${missing/PYTHON/Python 3.11 to 3.13}"
    say "run this once: $(command_for "$missing")"
fi

# ------------------------------------------------------------------------------------------------------ .venv

if [ $make_venv = yes ]; then
    if [ -z "$python" ]; then
        say "no Python 3.11, 3.12 or 3.13 was found; install one, or run: make setup PYTHON=/path/to/python3"
        exit 1
    fi
    if ! makes_venv "$python"; then
        say "$python cannot make a virtual environment (its venv package is missing); run the command above"
        exit 1
    fi
    say "making $venv with $("$python" --version) ($python)"
    "$python" -m venv --clear $venv
    printf '%s\n' "$PWD" >$venv/.setup-place
fi
[ -z "$missing" ] || grep -qsxF -- "$missing" $tried || printf '%s\n' "$missing" >>$tried

# pyscard comes as source for Linux only; elsewhere its wheels need nothing.
pcsc=no
if [ "$(uname -s)" != Linux ] || { pcsc_headers && compiler; }; then pcsc=yes; fi

stamp=$(cat requirements/*.txt pyproject.toml scripts/setup.sh | { sha256sum 2>/dev/null || shasum -a 256; })
stamp="${stamp%% *} pcsc=$pcsc"
if [ "$(cat $venv/.setup-stamp 2>/dev/null)" != "$stamp" ]; then
    pip() { $venv_python -m pip --disable-pip-version-check --no-input "$@" 9>&-; }
    count() { cat "$@" | grep -c '=='; }
    rm -f $venv/.setup-stamp

    say "installing $(count requirements/build.txt requirements/dev.txt) pinned packages into $venv, hashes checked"
    pip install --quiet --require-hashes --only-binary :all: -r requirements/build.txt -r requirements/dev.txt || {
        say "the packages could not be installed (see above); mend that, then run make setup again"
        exit 1
    }

    if [ $pcsc = yes ]; then
        say "installing pyscard (built from source on Linux) into $venv, hash checked"
        # The pinned swig of .venv builds it, hence PATH.
        PATH=$PWD/$venv/bin:$PATH pip install --quiet --require-hashes --no-build-isolation -r requirements/pcsc.txt ||
            say "pyscard could not be built"
    fi

    say "installing hardwallet itself from this checkout"
    pip install --quiet --no-deps --no-index --no-build-isolation --editable .
    printf '%s\n' "$stamp" >$venv/.setup-stamp
    say "done; the program is $venv/bin/hardwallet"
fi

if ! $venv_python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("smartcard") is None)'; then
    say "WITHOUT PC/SC: pyscard is not installed, so there are no pcsc: readers; everything else works"
fi

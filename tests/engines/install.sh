#!/bin/sh
# Installs the engines that tests run against, from the packages of Debian and its kin. Nothing is started: the tests
# start, use and end the daemons themselves. Without root, or elsewhere, nothing happens, and tests of what is not
# installed are skipped with a reason.
set -eu
export DEBIAN_FRONTEND=noninteractive
missing=
want() { # want COMMAND PACKAGE...
    command -v "$1" >/dev/null 2>&1 && return
    shift
    missing="$missing $*"
}
PATH=$PATH:/usr/sbin:/sbin
want sshd openssh-server openssh-client
want slurmctld slurmctld slurmd slurm-client munge
want sge_qmaster gridengine-master gridengine-exec gridengine-client
tree=${XDG_CACHE_HOME:-$HOME/.cache}/dask-engines/htcondor
if [ ! -x "$tree/usr/sbin/condor_master" ]; then want mmdebstrap mmdebstrap; fi
if [ -z "$missing" ] && [ -x "$tree/usr/sbin/condor_master" ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed (that takes root and apt-get):$missing $tree" >&2
    exit 0
fi
# Grid Engine's package asks whether to set up a cell of its own, and waits for an answer.
printf '%s\n' 'gridengine-master shared/gridenginemaster string localhost' \
    'gridengine-master shared/gridenginecell string default' \
    'gridengine-master shared/gridengineconfig boolean false' | debconf-set-selections
apt-get update -q
# Packages that start their service when installed do it with the machine's own configuration; ours are separate.
# shellcheck disable=SC2086
if [ -n "$missing" ]; then apt-get install -q -y --no-install-recommends $missing; fi

# Debian 12 has no HTCondor, Debian 13 does: a small tree of that (312 MB), in which the pool runs. The libraries are
# those that a Python from elsewhere links to.
if [ ! -x "$tree/usr/sbin/condor_master" ]; then
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -E '/debian/?$' | head -n 1)
    rm -rf "$tree"
    mkdir -p "$(dirname "$tree")"
    libraries=libssl3t64,libffi8,libbz2-1.0,liblzma5,libsqlite3-0,libreadline8t64,libncursesw6,libexpat1
    mmdebstrap --quiet --variant=minbase --include="minicondor,$libraries" trixie "$tree.new" "$mirror" && mv "$tree.new" "$tree"
fi

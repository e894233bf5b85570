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
if [ -z "$missing" ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed (that takes root and apt-get):$missing" >&2
    exit 0
fi
# Grid Engine's package asks whether to set up a cell of its own, and waits for an answer.
printf '%s\n' 'gridengine-master shared/gridenginemaster string localhost' \
    'gridengine-master shared/gridenginecell string default' \
    'gridengine-master shared/gridengineconfig boolean false' | debconf-set-selections
apt-get update -q
# Packages that start their service when installed do it with the machine's own configuration; ours are separate.
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing

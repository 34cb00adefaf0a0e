#!/usr/bin/env bash
# Makes FOLDER/root.tar: a small Debian with Python and the authorities' certificates, from the host's own mirrors.
# Usage: make-root.sh FOLDER CODENAME MIRROR SOURCES    (SOURCES: a file with lines for apt's sources.list)
set -euo pipefail
folder=$1 codename=$2 mirror=$3 sources=$4
root=$folder/root
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

# Without a mount namespace of our own, what is mounted in the root for apt could stay behind.
if [[ -z ${MARKETFEED_UNSHARED:-} ]]; then
  MARKETFEED_UNSHARED=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

debootstrap --variant=minbase --include=ca-certificates,python3,tzdata "$codename" "$root" "$mirror"
cp "$sources" "$root/etc/apt/sources.list"
cat > "$root/etc/dpkg/dpkg.cfg.d/small" <<'RULES'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
RULES
cat > "$root/etc/apt/apt.conf.d/small" <<'RULES'
APT::Install-Recommends "false";
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
RULES
chroot "$root" apt-get --quiet=2 update
chroot "$root" apt-get --quiet=2 --yes upgrade

# What another run would write differently, what is in nobody's way but the size's, and what tells of this machine.
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share/doc" -type l -delete
find "$root/usr/share/doc" -depth -type d -empty -delete
rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,ldconfig}/* \
  "$root"/var/cache/debconf/*-old "$root"/var/log/{apt,*.log} "$root"/etc/{hostname,resolv.conf,machine-id} \
  "$root"/tmp/* "$root"/run/*
find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +
tar --create --file "$folder/root.tar" --directory "$root" --sort=name --numeric-owner --one-file-system .
umount --recursive "$root"/* 2> /dev/null || true
rm -rf --one-file-system "$root"

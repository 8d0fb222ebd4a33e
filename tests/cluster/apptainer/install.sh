#!/usr/bin/env bash
# install.sh PREFIX MIRROR: a real Apptainer on a Debian machine that has none, below PREFIX; its command is
# PREFIX/bin/apptainer. Run as root; for tests on machines that are thrown away afterwards.
#
# Debian has Apptainer in its unstable suite only, built against a newer C library than a stable machine has. So the
# package is unpacked, not installed, together with the libraries that it needs, and bound to those. The machine's own
# library and package sources stay as they are.
set -euo pipefail
prefix=$1 mirror=$2
libraries=$prefix/lib work=$prefix/work
rm -rf "$prefix"
mkdir -p "$prefix/bin" "$libraries" "$work"/{lists/partial,archives/partial,packages,unpacked}

# What `apptainer build` and `apptainer exec` call, from the machine's own release.
export DEBIAN_FRONTEND=noninteractive
tools="debootstrap fuse-overlayfs fuse3 patchelf squashfs-tools squashfuse uidmap"
apt-get install -qq --no-install-recommends $tools >/dev/null 2>&1 ||
  { apt-get update -qq; apt-get install -qq --no-install-recommends $tools >/dev/null; }

# A view of the unstable suite that only these commands have.
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" > "$work/sources.list"
: > "$work/status"
cat > "$work/apt.conf" <<CONFIGURATION
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$work/lists";
Dir::State::Status "$work/status";
Dir::Cache "$work";
APT::Sandbox::User "root";
Acquire::Languages "none";
CONFIGURATION
export APT_CONFIG=$work/apt.conf
apt-get update -qq
cd "$work/packages"
apt-get download -qq apptainer libc6 libseccomp2 libsqlite3-0      # checked against the signed index
unset APT_CONFIG
dpkg-deb --extract apptainer_*.deb "$prefix"
for package in lib*.deb; do dpkg-deb --extract "$package" "$work/unpacked"; done
find "$work/unpacked" -path '*-linux-gnu/*' \( -name 'lib*.so.*' -o -name 'ld-linux*' \) ! -path '*/gconv/*' \
  -exec cp --dereference {} "$libraries" \;

# The programs look for their configuration beside themselves: one relative to usr, the other to usr/lib.
mv "$prefix/etc" "$prefix/var" "$prefix/usr"
ln -s ../etc ../var "$prefix/usr/lib"
loader=$(echo "$libraries"/ld-linux*)
for program in "$prefix"/usr/bin/apptainer "$prefix"/usr/lib/*/apptainer/bin/starter; do
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$program"
done
ln -s ../usr/bin/apptainer "$prefix/bin/apptainer"
rm -rf "$work"

# `build --fakeroot` maps the users of the image to these numbers.
for file in /etc/subuid /etc/subgid; do
  grep -qs '^root:' $file || echo root:100000:65536 >> $file
done
"$prefix/bin/apptainer" --version

#!/usr/bin/env bash
# containers/build.sh cpu|cuda [options of `apptainer build`]: build containers/certsmooth.sif from this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
image=containers/certsmooth.sif
fail() { echo "make image: $*" >&2; exit 1; }

variant=${1:-}
[[ $variant =~ ^(cpu|cuda)$ ]] || fail "variant '$variant'; must be cpu or cuda"
shift
command -v apptainer >/dev/null || fail "apptainer is not installed (or its module is not loaded). Install it
(https://apptainer.org/docs/admin/latest/installation.html), or build on another machine and copy $image here."

# As provenance.py: -dirty where tracked files differ from the commit.
commit=$(git describe --always --dirty --abbrev=40 '--exclude=*' 2>/dev/null) || commit=unknown
options=(--force --build-arg-file "containers/$variant.args" --build-arg "COMMIT=$commit")
# A tenth of gzip's time, and read faster.
options+=(--mksquashfs-args "-comp zstd -Xcompression-level 1")
# A network that inspects TLS has a CA of its own: the build needs it, the image does not.
bundle=/etc/ssl/certs/ca-certificates.crt
[ -z "${SSL_CERT_FILE:-}" ] || options+=(--bind "$SSL_CERT_FILE:$bundle")
# Under another name first: jobs may be running in the image that is there.
trap 'rm -f "$image.part"' EXIT
apptainer build "${options[@]}" "$@" "$image.part" containers/certsmooth.def
mv "$image.part" "$image"

#!/bin/sh
# tools/gpu_bundle.sh [ARCH [FOLDER]]: builds surtitle with its CUDA module for compute capability ARCH (90; several as
# 80,90) and copies what a machine without our Debian packages needs to FOLDER (gpu-bundle/, ignored by git): program,
# bench, library, module, the tests in C, fatbins, and the shared libraries that they need, except the C library's and the
# driver's. At most 30 MiB. The scripts that use it (tools/gpu_check.sh, tools/gpu_bench.sh) and the demo model stay in the
# tree.
set -eu
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
arch=${1:-90}
bundle=${2:-$root/gpu-bundle}
build=$root/build-gpu
max_mib=30

set -- -Dbuildtype=release -Dcuda=enabled "-Dcuda-arch=$arch" -Dportaudio=disabled -Dvterm=disabled -Dman=disabled
if [ -f "$build/build.ninja" ]; then
    meson configure "$build" "$@"
else
    meson setup "$build" "$root" "$@"
fi
programs='src/cli/surtitle src/bench/surtitle-bench tests/kernels/kernel_check
    tests/unit/test_backend tests/unit/test_session tests/gpu/test_faults tests/gpu/far_run'
modules='src/gpu/surtitle-cuda.so tests/gpu/fail_cuda.so'
# shellcheck disable=SC2086 # names without blanks
ninja -C "$build" $programs $modules

# The layout of the build folder, because the program finds its module by it.
rm -rf "$bundle"
mkdir -p "$bundle/lib" "$bundle/meson-private"
echo 'The program takes a folder with this one in it for the build folder.' >"$bundle/meson-private/README"
for file in $programs $modules; do
    mkdir -p "$bundle/$(dirname "$file")"
    cp "$build/$file" "$bundle/$file"
done
cp -L "$build/src/libsurtitle.so.0" "$bundle/src/"
cp -L "$build/src/libsurtitle.so.0" "$bundle/src/libsurtitle.so"
cp "$build"/src/gpu/*.fatbin "$bundle/src/gpu/"

# shellcheck disable=SC2086
(cd "$bundle" && ldd $programs src/libsurtitle.so.0) |
    sed -n 's/^.*=> \(\/[^ ]*\) .*$/\1/p' | sort -u |
    grep -Ev '/(libc|libm|libpthread|libdl|librt|libgcc_s|libstdc\+\+|libcuda|libsurtitle)\.so' |
    while read -r library; do cp -L "$library" "$bundle/lib/"; done
strip --strip-unneeded "$bundle"/lib/* 2>/dev/null || true

# Writes run and one script per program, which calls it.
cat >"$bundle/run" <<'RUN'
#!/bin/sh
# run PROGRAM ARGUMENT...: any program with the bundle's libraries. surtitle, surtitle-bench and kernel_check beside it
# run the bundle's own.
here=$(cd "$(dirname "$0")" && pwd)
case $(basename "$0") in
surtitle) set -- "$here/src/cli/surtitle" "$@" ;;
surtitle-bench) set -- "$here/src/bench/surtitle-bench" "$@" ;;
kernel_check) set -- "$here/tests/kernels/kernel_check" "$@" ;;
esac
LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64
export LD_LIBRARY_PATH
exec "$@"
RUN
chmod +x "$bundle/run"
for name in surtitle surtitle-bench kernel_check; do cp "$bundle/run" "$bundle/$name"; done
git -C "$root" log -1 --format=%h >"$bundle/commit" 2>/dev/null || echo unknown >"$bundle/commit"

"$bundle/surtitle" --version
mib=$(du -sm "$bundle" | cut -f 1)
echo "$bundle: $mib MiB for $arch"
[ "$mib" -le $max_mib ] || {
    echo "gpu_bundle.sh: more than $max_mib MiB" >&2
    exit 1
}

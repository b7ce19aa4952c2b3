#!/bin/sh
# Collect what synth.py needs in one folder that can be copied to a bare GPU machine: setup.sh OUT (about 26 MB).
# Needs Debian 12 (or another with apt and these packages), gcc, python3. Downloads packages without installing them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download fortunes fortunes-min wordnet-base dict-jargon bible-kjv bible-kjv-text wamerican-small \
    flite1-dev libflite1 libespeak-ng1 espeak-ng-data libsonic0 libasound2
for deb in *.deb; do dpkg -x "$deb" root; done
lib=root/usr/lib/$(gcc -print-multiarch)

# espeak-ng, with a stand-in for the sound library that it is linked to, and its English data.
cp -L "$lib/libespeak-ng.so.1" "$lib/libsonic.so.0" "$out/"
gcc -O2 -shared -fPIC -Wl,-soname,libpcaudio.so.0 -o "$out/libpcaudio.so.0" "$here/no_audio.c"
mkdir -p "$out/espeak-ng-data"
for f in en_dict intonations lang phondata phondata-manifest phonindex phontab voices; do
    cp -r "$lib/espeak-ng-data/$f" "$out/espeak-ng-data/"
done

# flite and its four American and Scottish voices, behind one function.
set --
for f in libflite_cmu_us_slt libflite_cmu_us_rms libflite_cmu_us_awb libflite_cmu_us_kal libflite_usenglish \
    libflite_cmulex libflite; do
    cp -L "$lib/$f.so.1" "$out/"
    set -- "$@" "-l:$f.so.1"
done
cp -L "$lib/libasound.so.2" "$out/"
# shellcheck disable=SC2016 # the loader expands $ORIGIN
gcc -std=gnu11 -O2 -shared -fPIC -Iroot/usr/include/flite -o "$out/libsay_flite.so" "$here/say_flite.c" "-L$out" \
    -Wl,-rpath,'$ORIGIN' -Wl,--disable-new-dtags "$@" -lm

python3 "$here/text.py" root "$out/text"

"""Modules that other users placed beside the program are not loaded. Arguments: program, shared library, a model, words of the
compiler...

A copy of the program, with its library, stands in folders whose parents look like a build folder: meson-private,
src/libsurtitle.so, and src/gpu/surtitle-cuda.so, which makes a file when it is loaded."""
import os, shutil, subprocess, sys, tempfile

PROGRAM, LIBRARY, MODEL, CC = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
PLANTED = '''#include <fcntl.h>
__attribute__((constructor)) static void planted(void) { open(LOADED, O_CREAT | O_WRONLY, 0600); }
'''


def plant(folder, module):
    os.makedirs(os.path.join(folder, "meson-private"), exist_ok=True)
    os.makedirs(os.path.join(folder, "src/gpu"), exist_ok=True)
    open(os.path.join(folder, "src/libsurtitle.so"), "a").close()
    shutil.copy(module, os.path.join(folder, "src/gpu/surtitle-cuda.so"))


def run(loaded, program, library_folder, *options):
    """Status, standard error, and whether the module was loaded, which creates the file `loaded`."""
    r = subprocess.run([program, *options, "--model", MODEL, "--log-level", "info", "--pcm", "s16le", "-"], input=bytes(3200),
                       env={**os.environ, "LD_LIBRARY_PATH": library_folder}, capture_output=True, timeout=120)
    was_loaded = os.path.exists(loaded)
    if was_loaded:
        os.unlink(loaded)
    return r.returncode, (r.stdout + r.stderr).decode(), was_loaded


def main():
    with tempfile.TemporaryDirectory() as top:
        source, module = os.path.join(top, "m.c"), os.path.join(top, "m.so")
        with open(source, "w", encoding="utf-8") as f:
            f.write(PLANTED)
        loaded = os.path.join(top, "loaded")
        subprocess.run([*CC, f'-DLOADED="{loaded}"', "-shared", "-fPIC", source, "-o", module], check=True)
        name = os.path.basename(os.path.realpath(LIBRARY))
        soname = ".".join(name.split(".")[:3])
        # where the program stands below the planted folder, and where its library
        for below, library in (("prog", "lib"), ("x/prog", "x"), ("inst/bin/surtitle", "inst/lib"),
                               ("src/cli/surtitle", "lib"), ("src/x/y/prog", "src/x")):
            place = tempfile.mkdtemp(dir=top)
            plant(place, module)
            program, libraries = os.path.join(place, below), os.path.join(place, library)
            os.makedirs(os.path.dirname(program), exist_ok=True)
            os.makedirs(libraries, exist_ok=True)
            shutil.copy(PROGRAM, program)
            shutil.copy(LIBRARY, os.path.join(libraries, soname))
            status, said, was_loaded = run(loaded, program, libraries)
            assert not was_loaded, (below, said)
            assert status == 0, (below, status, said)
            status, said, was_loaded = run(loaded, program, libraries, "--backend", "cuda")
            assert not was_loaded and status == 5, (below, status, said)
        # the library lies in such a folder, which therefore counts; but others may write it
        for loose in ("src/gpu", "src/gpu/surtitle-cuda.so", None):
            place = tempfile.mkdtemp(dir=top)
            plant(place, module)
            shutil.copy(LIBRARY, os.path.join(place, "src", soname))
            program = os.path.join(place, "surtitle")
            shutil.copy(PROGRAM, program)
            if loose:
                os.chmod(os.path.join(place, loose), 0o777)
            status, said, was_loaded = run(loaded, program, os.path.join(place, "src"), "--backend", "cuda")
            assert was_loaded == (loose is None), (loose, said)
            assert status == 5 and (loose is None or "others than" in said), (loose, status, said)
            status, said, was_loaded = run(loaded, program, os.path.join(place, "src"))
            assert status == 0, (loose, status, said)  # goes on with the CPU
        # the module is a link to a file in a folder that others may write
        place, shared = tempfile.mkdtemp(dir=top), tempfile.mkdtemp(dir=top)
        plant(place, module)
        planted = os.path.join(place, "src/gpu/surtitle-cuda.so")
        os.rename(planted, os.path.join(shared, "m.so"))
        os.symlink(os.path.join(shared, "m.so"), planted)
        shutil.copy(LIBRARY, os.path.join(place, "src", soname))
        program = os.path.join(place, "surtitle")
        shutil.copy(PROGRAM, program)
        for mode in (0o777, 0o755):
            os.chmod(shared, mode)
            status, said, was_loaded = run(loaded, program, os.path.join(place, "src"), "--backend", "cuda")
            assert was_loaded == (mode == 0o755) and status == 5, (oct(mode), status, said)
            assert was_loaded or ("others than" in said and shared in said), said
    print("passed")


main()

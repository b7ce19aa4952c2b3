"""Each header compiles alone, twice in a row, without a warning. surtitle.h also compiles as strict C11, as C89 and, if the
compiler supports it, as C++98. Checked are the headers of src/ (except *_body.h, which is source that several files
include once each) and kernels/*.h, which the C compiler reads too. kernels/*.cuh need nvcc; instead, each of them must be
the first include of another file of kernels/, which proves the same. Headers that need cuda.h are left out without it.
Arguments: source folder, compiler words..."""
import os, re, subprocess, sys

root, cc = sys.argv[1], sys.argv[2:]
src, kernels = os.path.join(root, "src"), os.path.join(root, "kernels")
headers = sorted(os.path.relpath(os.path.join(folder, name), src)
                 for folder, _, names in os.walk(src) for name in names
                 if name.endswith(".h") and not name.endswith("_body.h"))
headers += sorted("kernels/" + name for name in os.listdir(kernels) if name.endswith(".h"))
bad = left_out = 0


def compile_alone(header, *flags, language="c"):
    global bad, left_out
    text = f'#include "{header}"\n#include "{header}"\nint nothing;\n'
    r = subprocess.run([*cc, *flags, "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-Werror",
                        "-I", src, "-I", root, "-fsyntax-only", "-x", language, "-"],
                       input=text, capture_output=True, text=True)
    if "fatal error: cuda.h:" in r.stderr or "fatal error: 'cuda.h'" in r.stderr:
        left_out += 1
    elif r.returncode:
        bad += 1
        print(f"{header} ({' '.join(flags)}):", *r.stderr.splitlines()[:8], sep="\n")


def first_includes():
    """The first include of each .cu and .cuh file."""
    for name in os.listdir(kernels):
        if name.endswith((".cu", ".cuh")):
            with open(os.path.join(kernels, name), encoding="utf-8") as f:
                yield re.search(r'^#include ["<]([^">]+)[">]', f.read(), re.M).group(1)


for name in headers:
    compile_alone(name, "-std=gnu11", "-D_GNU_SOURCE")
compile_alone("surtitle.h", "-std=c11", "-Wpedantic")
compile_alone("surtitle.h", "-std=c89", "-pedantic-errors")
if subprocess.run([*cc, "-fsyntax-only", "-x", "c++", "/dev/null"], capture_output=True).returncode == 0:
    compile_alone("surtitle.h", "-std=c++98", "-pedantic-errors", language="c++")
for name in sorted({name for name in os.listdir(kernels) if name.endswith(".cuh")} - set(first_includes())):
    bad += 1
    print(f"kernels/{name}: no file of kernels/ includes it first")
print(f"{len(headers)} headers, {bad} do not compile alone, {left_out} left out")
sys.exit(1 if bad or not headers else 0)

"""Each header compiles alone, twice in a row, without a warning; *_body.h is source that several files include, once
each. surtitle.h does so in strict C11. kernels/launch.h, which the C compiler reads, too, is one of them. What needs cuda.h
is left out where there is none. Arguments: source folder, compiler words..."""
import os, subprocess, sys

src, cc = os.path.join(sys.argv[1], "src"), sys.argv[2:]
headers = sorted(os.path.relpath(os.path.join(folder, name), src)
                 for folder, _, names in os.walk(src) for name in names
                 if name.endswith(".h") and not name.endswith("_body.h"))
headers.append("launch.h")
bad = left_out = 0


def compile_alone(header, *flags):
    global bad, left_out
    text = f'#include "{header}"\n#include "{header}"\nint nothing;\n'
    r = subprocess.run([*cc, *flags, "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-Werror",
                        "-I", src, "-I", os.path.join(sys.argv[1], "kernels"), "-fsyntax-only", "-x", "c", "-"], input=text, capture_output=True, text=True)
    if "fatal error: cuda.h:" in r.stderr or "fatal error: 'cuda.h'" in r.stderr:
        left_out += 1
    elif r.returncode:
        bad += 1
        print(f"{header} ({' '.join(flags)}):", *r.stderr.splitlines()[:8], sep="\n")


for name in headers:
    compile_alone(name, "-std=gnu11", "-D_GNU_SOURCE")
compile_alone("surtitle.h", "-std=c11", "-Wpedantic")
print(f"{len(headers)} headers, {bad} do not stand alone, {left_out} left out")
sys.exit(1 if bad or not headers else 0)

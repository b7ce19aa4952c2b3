"""The names that the library exports. Arguments: source folder, static library of the core, shared library, nm, and the
CUDA module if there is one.

Static library: every external symbol begins with sur_. Shared library: it exports exactly the SUR_API functions of
surtitle.h. Module: it exports only the one function that src/gpu/module.h declares."""
import re, subprocess, sys


def symbols(nm, *args):
    out = subprocess.run([nm, "--defined-only", "--extern-only", "--format=posix", *args], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    # lines that end in a colon name archive members; a version node is not a function
    return {line.split()[0].split("@")[0] for line in out.stdout.splitlines() if len(line.split()) >= 2
            and line.split()[1] != "A" and not line.endswith(":")}


def main(root, static, shared, nm, module=None):
    bad = [f"{static}: {name} does not begin with sur_" for name in sorted(symbols(nm, static))
           if not name.startswith("sur_")]
    with open(root + "/src/surtitle.h", encoding="utf-8") as f:
        header = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    promised = set(re.findall(r"^SUR_API[^;(]*?\b(sur_\w+)\s*\(", header, flags=re.M))
    exported = symbols(nm, "--dynamic", shared)
    bad += [f"{shared}: {name} is in surtitle.h but not exported" for name in sorted(promised - exported)]
    bad += [f"{shared}: {name} is exported but not in surtitle.h" for name in sorted(exported - promised)]
    if module and symbols(nm, "--dynamic", module) != {"sur_backend_cuda"}:
        bad.append(f"{module} exports {sorted(symbols(nm, '--dynamic', module))}, not sur_backend_cuda alone")
    print(*bad, sep="\n")
    print(f"{len(promised)} functions promised, {len(exported)} exported, {len(bad)} wrong")
    return 1 if bad or not promised else 0


sys.exit(main(*sys.argv[1:6]))

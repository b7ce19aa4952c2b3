"""Include direction: a file includes only what lies below it (docs/architecture.md). Arguments: the source folder.

Layers of the library, lowest first; a layer sees itself and those below it. The program sees surtitle.h, util and its
own folders, so that it proves what the library's header is worth: input and sink do not know each other, overlay is
above sink, cli above all three. surtitle-bench and surtitle-quantize see the whole library, and no part sees them.
gpu also sees kernels/*.h, which both compilers read; kernels/ sees itself alone, by names without the folder."""
import os, re, sys

LAYERS = ["util", "core", "backends", "join"]
PROGRAM = {"input": ["input"], "sink": ["sink"], "overlay": ["overlay", "sink"], "cli": ["cli", "overlay", "sink", "input"]}


def layer_of(path):
    """Name of the layer that a file of src/ belongs to; "program" for what is not in the library."""
    if path.split("/")[0] in PROGRAM:
        return "program"
    if path.startswith(("bench/", "quantize/")):
        return "bench"
    folder = path.split("/")[0] if "/" in path else ""
    return {"util": "util", "audio": "core", "text": "core", "model": "core", "cpu": "backends", "gpu": "backends",
            "": "join"}[folder]


def allowed(path, header):
    if header == "surtitle.h":
        return True
    if header.startswith("kernels/"):
        return path.startswith("gpu/") and header.endswith(".h")
    mine, its = layer_of(path), layer_of(header)
    if mine == "program":
        # ring and timeline stand between the threads of both, the library's and the program's
        shared = header in ("audio/ring.h", "audio/timeline.h") and path.startswith("input/capture.")
        return its == "util" or header.split("/")[0] in PROGRAM[path.split("/")[0]] or shared
    if mine == "bench":
        return its != "program"
    if its in ("program", "bench"):
        return False
    if mine == "backends" and its == "backends":  # cpu and gpu do not know each other
        return path.split("/")[0] == header.split("/")[0]
    if path.startswith(("audio/", "text/")) and header.startswith(("audio/", "text/", "model/")):
        return path.split("/")[0] == header.split("/")[0]
    return LAYERS.index(its) <= LAYERS.index(mine)


def includes(path):
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            m = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if m:
                yield number, m.group(1)


def sources(top, suffixes):
    """Yields (full path, path below top)."""
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            if name.endswith(suffixes):
                full = os.path.join(folder, name)
                yield full, os.path.relpath(full, top)


GENERATED = ("config.h", "gpu_abi.h")  # in the build folder


def check(root):
    src, kernels, bad, seen = os.path.join(root, "src"), os.path.join(root, "kernels"), [], 0
    for full, path in sources(src, (".c", ".h")):
        for number, header in includes(full):
            seen += 1
            places = [root] if header.startswith("kernels/") else [src, os.path.dirname(full)]
            if not any(os.path.exists(os.path.join(place, header)) for place in places):
                if header not in GENERATED:
                    bad.append(f"src/{path}:{number}: {header} is not a path from src/")
            elif path == "surtitle.h":
                bad.append(f"src/{path}:{number}: surtitle.h includes nothing of the project")
            elif header not in GENERATED and not allowed(path, header):
                bad.append(f"src/{path}:{number}: {layer_of(path)} may not include {header}")
    for full, path in sources(kernels, (".cu", ".cuh", ".h")):
        for number, header in includes(full):
            seen += 1
            if "/" in header or not os.path.exists(os.path.join(kernels, header)):
                bad.append(f"kernels/{path}:{number}: {header} is not a file of kernels/")
            elif path.endswith(".h") and not header.endswith(".h"):
                bad.append(f"kernels/{path}:{number}: the C compiler cannot read {header}")
    return bad, seen


def selftest():
    """The rules themselves: a check that lets everything through would pass for ever."""
    for path, header, expected in [
            ("util/log.c", "util/log.h", True), ("util/log.c", "audio/ring.h", False),
            ("audio/mel.c", "util/error.h", True), ("audio/mel.c", "model/params.h", False),
            ("model/checkpoint.c", "text/tekken.h", True), ("model/params.c", "cpu/pool.h", False),
            ("cpu/backend.c", "model/backend.h", True), ("cpu/backend.c", "gpu/x.h", False),
            ("text/assemble.c", "model/params.h", False), ("session.c", "cpu/pool.h", True),
            ("input/source_sndfile.c", "audio/mel.h", False), ("input/capture.c", "audio/ring.h", True),
            ("input/capture.c", "audio/timeline.h", True), ("cli/live.c", "audio/timeline.h", False),
            ("cli/live.c", "audio/ring.h", False), ("input/source_sndfile.c", "surtitle.h", True),
            ("cli/main.c", "model/params.h", False), ("cli/main.c", "sink/sink.h", True),
            ("overlay/screen.c", "sink/output.h", True),
            ("input/source_mic.c", "cli/message.h", False), ("input/wav.c", "sink/output.h", False),
            ("sink/text.c", "input/source.h", False), ("sink/text.c", "overlay/screen.h", False),
            ("overlay/vt.c", "cli/message.h", False), ("overlay/vt.c", "input/source.h", False),
            ("cli/run.c", "overlay/overlay.h", True), ("cli/run.c", "bench/probe.h", False), ("overlay/screen.c", "text/tekken.h", False),
            ("bench/main.c", "cpu/pool.h", True), ("bench/main.c", "cli/run.h", False),
            ("gpu/pass.c", "kernels/launch.h", True), ("cpu/tower.c", "kernels/launch.h", False),
            ("gpu/pass.c", "kernels/common.cuh", False), ("gpu/load.c", "cpu/pool.h", False),
            ("cpu/pool.c", "bench/probe.h", False), ("cli/main.c", "input/source.h", True), ("session.c", "sink/sink.h", False)]:
        assert allowed(path, header) == expected, (path, header)


selftest()
found, total = check(sys.argv[1])
print(*found, sep="\n")
print(f"{total} includes, {len(found)} against the direction")
sys.exit(1 if found or not total else 0)

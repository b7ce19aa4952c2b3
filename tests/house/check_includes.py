"""Include direction: a file includes only what lies below it (docs/architecture.md). Arguments: the source folder.

Layers of the library, lowest first; a layer sees itself and those below it. The program sees surtitle.h, util and its
own folders, so that it proves what the library's header is worth: input and sink do not know each other, overlay is
above sink, cli above all three. surtitle-bench and surtitle-quantize see the whole library, and no part sees them.
gpu also sees kernels/*.h, which both compilers read; kernels/ sees itself alone, by names without the folder.

No circles: parts (a .c file and the header of its name) do not include one another, and .c files do not call one
another, also not around several corners."""
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


def circles(graph):
    """Groups of nodes that reach one another in graph, {node: {nodes}}, each as a sorted list."""
    reach = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            for node in graph.get(waiting.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    waiting.append(node)
        reach[start] = seen
    found = {tuple(sorted(other for other in reach[node] if node in reach.get(other, ()))) for node in graph if node in reach[node]}
    return [list(group) for group in sorted(found)]


def include_graph(texts):
    """texts: {path below src: text}. {path without suffix: {those that it includes}}"""
    graph = {}
    for path, text in texts.items():
        mine = os.path.splitext(path)[0]
        for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.M):
            other = os.path.splitext(header)[0]
            if header in texts and other != mine:
                graph.setdefault(mine, set()).add(other)
    return graph


def call_graph(texts):
    """texts: {path: text} of .c files. {path: {those whose functions it names}}; a name that several files define
    (feature stubs) counts for none."""
    plain = {path: re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', "", text, flags=re.S) for path, text in texts.items()}
    home = {}
    for path, text in plain.items():
        for name in re.findall(r"^(?!static\b|typedef\b|#)[A-Za-z_][\w \*]*?\b(\w+)\([^;{}]*\)\s*\{", text, re.M):
            home.setdefault(name, set()).add(path)
    graph = {}
    for path, text in plain.items():
        own = set(re.findall(r"^static\b[\w \*\(\),]*?\b(\w+)\(", text, re.M))
        for name in set(re.findall(r"\w+", text)) & set(home) - own:
            if len(home[name]) == 1 and path not in home[name]:
                graph.setdefault(path, set()).update(home[name])
    return graph


def check_circles(src):
    texts = {}
    for full, path in sources(src, (".c", ".h")):
        with open(full, encoding="utf-8") as f:
            texts[path] = f.read()
    bodies = {path: text for path, text in texts.items() if path.endswith(".c")}
    return ([f"circle of includes: {', '.join(group)}" for group in circles(include_graph(texts))] +
            [f"circle of calls: {', '.join(group)}" for group in circles(call_graph(bodies))])


def selftest_circles():
    head = {"a.h": '#include "b.h"\n', "b.h": "", "c.h": '#include "a.h"\n'}
    assert circles(include_graph(head)) == []
    assert circles(include_graph(dict(head, **{"b.h": '#include "a.h"\n'}))) == [["a", "b"]]
    assert circles(include_graph(dict(head, **{"b.c": '#include "b.h"\n#include "c.h"\n'}))) == [["a", "b", "c"]]
    body = {"a.c": "int a(void)\n{\n    return b(); /* c() */\n}\n", "b.c": "int b(void)\n{\n    return 0;\n}\n"}
    assert circles(call_graph(body)) == []
    assert circles(call_graph(dict(body, **{"b.c": "int b(void)\n{\n    return a();\n}\n"}))) == [["a.c", "b.c"]]
    assert circles(call_graph(dict(body, **{"b.c": "static int a(void)\n{\n}\nint b(void)\n{\n    return c();\n}\n",
                                            "c.c": 'int c(void)\n{\n    return puts("a");\n}\n'}))) == []


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
selftest_circles()
found, total = check(sys.argv[1])
found += check_circles(os.path.join(sys.argv[1], "src"))
print(*found, sep="\n")
print(f"{total} includes, {len(found)} faults")
sys.exit(1 if found or not total else 0)

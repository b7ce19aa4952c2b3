"""A model whose weights are not finite, or become so while it runs, ends in one line and status 1, and writes no token
that it computed with them. Arguments: program, a tiny model, options...

One number of one tensor is made NaN or infinity, or a tensor all 3e38; then, in a paced run, the file is overwritten. Keys and
values are fp16 on the CPU, and for their own weights fp32, too; on a GPU, which cuts infinity to 65,504, fp32 (docs/model.md)."""
import json, os, shutil, struct, subprocess, sys, tempfile, time

PROGRAM, MODEL, OPTIONS = sys.argv[1], sys.argv[2], sys.argv[3:]
QUICK = "cuda" in OPTIONS  # on the emulated GPU a step takes long
WORDS = "NaN or infinity"
NAN, INFINITY, LARGE = 0x7fc0, 0x7f80, 0x7f61  # bf16


def tensors(path):
    """Name to (offset in the file, bytes)."""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(n))
    return {name: (8 + n + t["data_offsets"][0], t["data_offsets"][1] - t["data_offsets"][0])
            for name, t in header.items() if name != "__metadata__"}


def overwrite(path, at, value, n=1):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(struct.pack("<H", value) * n)


def check(model, what, kv="fp32" if QUICK else "fp16"):
    r = subprocess.run([PROGRAM, *OPTIONS, "--kv", kv, "--model", model, "--format", "tokens", "--pcm", "s16le", "-"],
                       input=b"\x10\x01\x90\xff" * 4000, capture_output=True, timeout=300)
    said = r.stderr.decode()
    assert r.returncode == 1, (what, r.returncode, said, r.stdout[:200])
    assert WORDS in said and said.count("\n") == 1, (what, said)
    assert b"nan" not in r.stdout.lower() and b"inf" not in r.stdout.lower(), (what, r.stdout[:200])


def check_each_kind(folder):
    weights = os.path.join(folder, "consolidated.safetensors")
    all_of = tensors(weights)
    # a tensor of each kind: of the first layer of each tower, and what is in no layer
    names = [n for n in sorted(all_of) if ".layers." not in n and not n.startswith("layers.") or ".layers.0." in n
             or n.startswith("layers.0.")]
    assert len(names) > 30, names
    if QUICK:
        names = [n for n in names if any(k in n for k in ("tok_embeddings", "conv_layers.0.conv.weight", "layers.0.attention.wk",
                                                          "layers.0.attention.wv", "language_projection.2"))]
    for i, name in enumerate(names):
        at, n_bytes = all_of[name]
        n = n_bytes // 2
        with open(weights, "rb") as f:
            f.seek(at)
            before = f.read(n_bytes)
        overwrite(weights, at + 2 * (i * 7919 % n), NAN)
        check(folder, ("NaN", name))
        kv_weight = "attention.wk." in name or "attention.wv." in name
        if not QUICK or kv_weight:
            overwrite(weights, at + 2 * (i * 7919 % n), INFINITY)
            check(folder, ("infinity", name))
        if not QUICK and kv_weight:
            check(folder, ("infinity, fp32", name), "fp32")
        with open(weights, "r+b") as f:
            f.seek(at)
            f.write(before)
    at, n_bytes = all_of["norm.weight"]
    overwrite(weights, at, LARGE, n_bytes // 2)
    check(folder, ("3e38", "norm.weight"))


def check_overwritten(folder):
    """All of the file but its header becomes NaN while captions run."""
    weights = os.path.join(folder, "consolidated.safetensors")
    begin = min(at for at, _ in tensors(weights).values())
    p = subprocess.Popen([PROGRAM, *OPTIONS, "--model", folder, "--format", "tokens", "--pace", "--pcm", "s16le", "-"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(b"\x10\x01\x90\xff" * 8000)
    p.stdin.flush()
    assert p.stdout.readline(), p.stderr.read()
    overwrite(weights, begin, 0xffff, (os.path.getsize(weights) - begin) // 2)
    try:
        end = time.monotonic() + 120
        while p.poll() is None and time.monotonic() < end:
            p.stdin.write(b"\x10\x01\x90\xff" * 400)
            p.stdin.flush()
            time.sleep(0.05)
    except BrokenPipeError:
        pass
    p.stdout.read()
    said = p.stderr.read().decode()
    assert p.wait(60) == 1 and WORDS in said, (p.returncode, said)


def main():
    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, "model")
        shutil.copytree(MODEL, folder)
        check_each_kind(folder)
        shutil.rmtree(folder)
        shutil.copytree(MODEL, folder)
        if not QUICK:  # a GPU has copied them
            check_overwritten(folder)
    print("passed")


main()

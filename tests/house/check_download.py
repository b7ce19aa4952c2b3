"""tools/download_model.sh against a curl that serves from memory: --dry-run touches nothing; a broken transfer resumes
and ends under the file's own name; a wrong sum, too few tensors, or no room leave nothing but a line and status 1; two at
once do not harm each other; a folder holds one model, of the type asked for or that the machine is for; it writes where surtitle looks.
Arguments: the source folder."""
import hashlib, json, os, shutil, stat, struct, subprocess, sys, tempfile, time

SCRIPT = os.path.join(sys.argv[1], "tools", "download_model.sh")
FAKE_CURL = """#!%s
import os, sys, time
args, box = sys.argv[1:], os.environ["BOX"]
with open(os.path.join(box, "calls"), "a") as f:
    f.write(" ".join(args) + "\\n")
url = args[-1]
if "--proto" not in args or args[args.index("--proto") + 1] != "=https" or not url.startswith("https://"):
    sys.exit(1)
if "/api/" in url:
    sys.stdout.write(open(os.path.join(box, "api.json")).read())
    sys.exit(0)
data = open(os.path.join(box, os.path.basename(url)), "rb").read()
out = args[args.index("--output") + 1]
at = os.path.getsize(out) if os.path.exists(out) else 0
cut = os.path.join(box, "cut")
breaks = os.path.exists(cut) and os.path.basename(url) == "tekken.json"
hold = os.path.join(box, "hold")
if os.path.exists(hold):
    os.rename(hold, hold + ".seen")
    while os.path.exists(hold + ".seen"):
        time.sleep(0.01)
with open(out, "ab") as f:
    f.write(data[at:at + 5] if breaks else data[at:])
if breaks:
    os.remove(cut)
    sys.exit(18)
""" % sys.executable


def start(box, *args, script=SCRIPT, **variables):
    env = dict(os.environ, BOX=box, PATH=os.path.join(box, "bin") + ":" + os.environ["PATH"], XDG_DATA_HOME=box + "/data")
    env.update(variables)
    if "--type" not in args and not variables.get("BARE"):
        args = ("--type", "bf16", *args)
    return subprocess.Popen([script, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=box)


def run(*args, **more):
    p = start(*args, **more)
    out, err = p.communicate(timeout=60)
    return subprocess.CompletedProcess(args, p.returncode, out, err)


def refused(r, text):
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and text in r.stderr, r


def until(ok):
    end = time.monotonic() + 60
    while not ok():
        assert time.monotonic() < end
        time.sleep(0.01)


def serve(box, tensor_bytes, wrong_sum=False):
    """The host's files, and the answer of its API."""
    files = {"params.json": b"{}", "tekken.json": b'{"vocab": []}' * 3,
             "consolidated.safetensors": struct.pack("<Q", 2) + b"{}" + bytes(tensor_bytes)}
    siblings = []
    for name, data in files.items():
        with open(os.path.join(box, name), "wb") as f:
            f.write(data)
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry = {"rfilename": name, "size": len(data), "blobId": blob}
        if name != "params.json":
            entry["lfs"] = {"sha256": "0" * 64 if wrong_sum else hashlib.sha256(data).hexdigest()}
        siblings.append(entry)
    with open(os.path.join(box, "api.json"), "w") as f:
        json.dump({"sha": "a" * 40, "siblings": siblings}, f)
    return files


def check_places(box):
    """Relative paths in the environment are ignored, as surtitle ignores them; --dir takes any name."""
    home = os.path.join(box, "home")
    r = run(box, "--dry-run", XDG_DATA_HOME="relative", HOME=home)
    assert r.returncode == 0 and home + "/.local/share/surtitle/model (" in r.stdout, r
    r = run(box, "--dry-run", XDG_DATA_HOME=box + "/data", HOME="relative")
    assert r.returncode == 0 and box + "/data/surtitle/model (" in r.stdout, r
    refused(run(box, "--dry-run", XDG_DATA_HOME="relative", HOME="relative"), "--dir")
    refused(run(box, "--dry-run", XDG_DATA_HOME="", HOME=""), "--dir")
    refused(run(box, "--dir", ""), "--dir")
    r = run(box, "--dir", "-x", "--dry-run")
    assert r.returncode == 0 and box + "/-x (" in r.stdout, r


def check_what_is_there(box, small, model):
    """A file in the folder is recognised by its sum; it must be a regular file."""
    whole = os.path.join(model, "consolidated.safetensors")
    with open(whole, "rb") as f:
        data = f.read()
    with open(whole, "wb") as f:
        f.write(data[:-1] + b"x")
    r = run(box, script=small)
    assert r.returncode == 0 and "fetched again" in r.stdout and r.stdout.count("is there, sum") == 2, r
    with open(whole, "rb") as f:
        assert f.read() == data
    os.rename(whole, whole + ".kept")
    part = whole + ".part"
    os.mkfifo(part)
    refused(run(box, script=small), "no regular file")
    os.remove(part)
    os.symlink("elsewhere", part)
    refused(run(box, script=small), "link")
    os.remove(part)
    os.mkdir(whole)
    refused(run(box, script=small), "no regular file")
    os.rmdir(whole)
    os.rename(whole + ".kept", whole)
    with open(os.path.join(box, "file"), "w"):
        refused(run(box, "--dir", "file/x", script=small), "cannot be made")


def check_two_at_once(box, small, model, files):
    """The second one ends with a line, and the first one's files are whole."""
    shutil.rmtree(model)
    hold = os.path.join(box, "hold")
    with open(hold, "w"):
        first = start(box, script=small)
    until(lambda: os.path.exists(hold + ".seen"))
    refused(run(box, script=small), "another download")
    os.remove(hold + ".seen")
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, (out, err)
    assert sorted(os.listdir(model)) == sorted(files)
    for name, data in files.items():
        with open(os.path.join(model, name), "rb") as f:
            assert f.read() == data, name


def check_types(box):
    """GGUF files: the default type depends on the folder and the GPU; a folder never gets a second model."""
    stem, data = "Voxtral-Mini-4B-Realtime-2602-", b"GGUF" + bytes(60)
    smi = os.path.join(box, "bin", "nvidia-smi")
    siblings = []
    for kind in ("Q8_0", "Q4_K_M"):
        with open(os.path.join(box, stem + kind + ".gguf"), "wb") as f:
            f.write(data)
        siblings.append({"rfilename": stem + kind + ".gguf", "size": len(data), "blobId": "b" * 40,
                         "lfs": {"sha256": hashlib.sha256(data).hexdigest()}})
    with open(os.path.join(box, "api.json"), "w") as f:
        json.dump({"sha": "a" * 40, "siblings": siblings}, f)

    def gpus(*mib):
        with open(smi, "w") as f:
            f.write("#!/bin/sh\n" + "".join(f"echo {m}\n" for m in mib) + ("" if mib else "exit 9\n"))
        os.chmod(smi, stat.S_IRWXU)

    for mib, kind in (((), "q4_k_m"), ((8192, 11264), "q4_k_m"), ((8192, 12282), "bf16"), ((81559,), "bf16")):
        gpus(*mib)
        r = run(box, "--dry-run", "--dir", "new", BARE="1")
        assert r.returncode == 0 and r.stdout.startswith(kind + " ("), r
        assert ("consolidated.safetensors" if kind == "bf16" else stem + "Q4_K_M.gguf") in r.stdout, r
    gpus()
    refused(run(box, "--type", "q4_0", "--dry-run"), "--type q4_0: one of bf16, q8_0, q6_k, q5_k_m, q4_k_m")
    r = run(box, "--dir", "gguf", BARE="1")
    assert r.returncode == 0 and r.stderr == "" and os.listdir(box + "/gguf") == [stem + "Q4_K_M.gguf"], r
    with open(os.path.join(box, "gguf", stem + "Q4_K_M.gguf"), "rb") as f:
        assert f.read() == data
    gpus(81559)  # the folder's type has priority over the default
    r = run(box, "--dir", "gguf", BARE="1")
    assert r.returncode == 0 and "is there, sum" in r.stdout, r
    refused(run(box, "--type", "q8_0", "--dir", "gguf"), "holds the model as q4_k_m")
    refused(run(box, "--type", "bf16", "--dir", "gguf"), "holds the model as q4_k_m")
    os.mkdir(os.path.join(box, "old"))
    with open(os.path.join(box, "old", "tekken.json.part"), "w"):
        pass
    gpus()
    refused(run(box, "--type", "q8_0", "--dir", "old"), "holds the model as bf16")
    r = run(box, "--dry-run", "--dir", "old", BARE="1")
    assert r.returncode == 0 and "params.json" in r.stdout, r
    with open(os.path.join(box, stem + "Q8_0.gguf"), "wb") as f:
        f.write(b"HTML" + data[4:])
    siblings[0]["lfs"]["sha256"] = hashlib.sha256(b"HTML" + data[4:]).hexdigest()
    with open(os.path.join(box, "api.json"), "w") as f:
        json.dump({"sha": "a" * 40, "siblings": siblings}, f)
    refused(run(box, "--type", "q8_0", "--dir", "html"), "is no GGUF file")


def main():
    with tempfile.TemporaryDirectory() as box:
        os.mkdir(os.path.join(box, "bin"))
        with open(os.path.join(box, "bin", "curl"), "w") as f:
            f.write(FAKE_CURL)
        os.chmod(f.name, stat.S_IRWXU)
        # the unchanged script, but for a checkpoint of 64 bytes
        small = os.path.join(box, "download_model.sh")
        with open(SCRIPT) as f, open(small, "w") as g:
            text = f.read()
            assert "tensor_bytes=8859358720\n" in text
            g.write(text.replace("tensor_bytes=8859358720\n", "tensor_bytes=64\n"))
        os.chmod(small, stat.S_IRWXU)
        model = os.path.join(box, "data", "surtitle", "model")

        r = run(box, "--dry-run")
        assert r.returncode == 0 and model in r.stdout and r.stdout.count("https://") == 4, r
        assert not os.path.exists(os.path.join(box, "data")) and not os.path.exists(os.path.join(box, "calls"))
        assert run(box, "--nonsense").returncode == 2
        assert run(box, "--revision", "../x").returncode == 1

        files = serve(box, 64, wrong_sum=True)
        r = run(box, script=small)
        assert r.returncode == 1 and "sum" in r.stderr, r
        assert os.listdir(model) == ["params.json"], os.listdir(model)

        serve(box, 64)
        open(os.path.join(box, "cut"), "w").close()
        r = run(box, script=small)
        assert r.returncode == 1 and "run it again" in r.stderr, r
        assert sorted(os.listdir(model)) == ["params.json", "tekken.json.part"]
        r = run(box, script=small)
        assert r.returncode == 0, r
        for name, data in files.items():
            with open(os.path.join(model, name), "rb") as f:
                assert f.read() == data, name
        assert sorted(os.listdir(model)) == sorted(files)
        with open(os.path.join(box, "calls")) as f:
            assert all("/resolve/" + "a" * 40 + "/" in c for c in f if "/resolve/" in c)
        r = run(box, script=small)
        assert r.returncode == 0 and r.stdout.count("is there") == 3, r
        check_places(box)
        check_what_is_there(box, small, model)
        check_two_at_once(box, small, model, files)

        check_types(box)
        serve(box, 64)
        r = run(box, "--dir", os.path.join(box, "other"))  # with the real size: 64 bytes of tensors are too few
        assert r.returncode == 1 and "8859358720" in r.stderr, r
    print("download_model.sh: dry run, sums, resume, places, two at once, types and figures hold")


main()

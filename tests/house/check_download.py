"""tools/download_model.sh against a curl that serves from memory: --dry-run touches nothing; a broken transfer resumes
and ends under the file's own name; a wrong sum, too few tensors, or no room leave nothing but a line and status 1.
Arguments: the source folder."""
import hashlib, json, os, stat, struct, subprocess, sys, tempfile

SCRIPT = os.path.join(sys.argv[1], "tools", "download_model.sh")
FAKE_CURL = """#!%s
import os, sys
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
with open(out, "ab") as f:
    f.write(data[at:at + 5] if breaks else data[at:])
if breaks:
    os.remove(cut)
    sys.exit(18)
""" % sys.executable


def run(box, *args, script=SCRIPT):
    env = dict(os.environ, BOX=box, PATH=os.path.join(box, "bin") + ":" + os.environ["PATH"], XDG_DATA_HOME=box + "/data")
    return subprocess.run([script, *args], env=env, capture_output=True, text=True, timeout=60)


def serve(box, tensor_bytes, wrong_sum=False):
    """Files as the host has them, and its API's answer."""
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


def main():
    with tempfile.TemporaryDirectory() as box:
        os.mkdir(os.path.join(box, "bin"))
        with open(os.path.join(box, "bin", "curl"), "w") as f:
            f.write(FAKE_CURL)
        os.chmod(f.name, stat.S_IRWXU)
        # the script as it is, but for a checkpoint of 64 bytes
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

        r = run(box, "--dir", os.path.join(box, "other"))  # the real figure: 64 bytes of tensors are too few
        assert r.returncode == 1 and "8859358720" in r.stderr, r
    print("download_model.sh: dry run, sums, resume and figures hold")


main()

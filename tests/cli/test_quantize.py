"""surtitle-quantize, and surtitle with GGUF files: types, bits, exit statuses, damaged files. tools/gguf_file.py, which
reads and writes the files here, shares no code with the C sources. Arguments: surtitle-quantize, surtitle, a tiny
model's folder, and optionally names of tests."""
import atexit, json, os, re, resource, shutil, signal, struct, subprocess, sys, tempfile, time, unittest, wave

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import gguf_file, make_checkpoint, reference  # noqa: E402

QUANTIZE, PROGRAM, MODEL = (os.path.abspath(a) for a in sys.argv[1:4])
BOX = tempfile.mkdtemp(prefix="surtitle-quantize.")
atexit.register(shutil.rmtree, BOX)
ENV = dict(os.environ, XDG_DATA_HOME=BOX + "/data", XDG_DATA_DIRS=BOX + "/none", HOME=BOX + "/home")
LONG = 300
SOUND = np.clip(8000 * np.sin(np.arange(9000) ** 1.3 * 0.01), -32768, 32767).astype("<i2").tobytes()


def path(name):
    return os.path.join(BOX, name)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def run(program, *words, **more):
    more.setdefault("input", b"")
    return subprocess.run([program, *words], capture_output=True, timeout=LONG, env=ENV, **more)


def check(r, status, *words):
    """Checks the exit status, and after a failure that there is one line, with the program's name and the words."""
    line = r.stderr.decode()
    assert r.returncode == status, (r.args, r.returncode, line)
    if status:
        assert line.count("\n") == 1 and line.startswith(os.path.basename(r.args[0]) + ": "), (r.args, line)
    for word in words:
        assert word in line, (r.args, word, line)
    return r


def quantise(kind, name, source=MODEL, *more):
    r = check(run(QUANTIZE, "--type", kind, *more, source, path(name)), 0)
    assert not r.stdout and not r.stderr, (r.stdout, r.stderr)
    return path(name)


def tokens(model, *more):
    return check(run(PROGRAM, "--model", model, "--backend", "cpu", "--format", "tokens", *more, "--pcm", "s16le", "-", input=SOUND), 0).stdout


def bf16():
    """The model as a BF16 file, made once."""
    return path("bf16.gguf") if os.path.exists(path("bf16.gguf")) else quantise("bf16", "bf16.gguf")


def mistral_weights():
    with open(os.path.join(MODEL, "consolidated.safetensors"), "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header, data = json.loads(f.read(n)), f.read()
    return {name: gguf_file.dequantise("BF16", entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))


def big():
    """A model that takes a while to quantise, made once."""
    if not os.path.exists(path("big")):
        make_checkpoint.write(path("big"), make_checkpoint.sizes("tiny", ["hidden_dim=6144", "dim=512"]), sparse=False)
    return path("big")


def change(name, key=None, value=None, tensor=None, instead=None):
    """The BF16 file with a key or a tensor replaced, or removed (None)."""
    keys, tensors = gguf_file.read(bf16())
    for table, entry, new in ((keys, key, value), (tensors, tensor, instead)):
        if entry:
            table.pop(entry) if new is None else table.__setitem__(entry, new)
    gguf_file.write(path(name), keys, tensors)
    return path(name)


class Quantize(unittest.TestCase):
    def test_bf16_is_the_same_model(self):
        own, found = mistral_weights(), gguf_file.weights(bf16())
        assert own.keys() == found.keys()
        for name in own:
            assert np.array_equal(own[name], found[name]), name
        assert tokens(bf16()) == tokens(MODEL)
        assert tokens(bf16(), "--threads", "3", "--cpu", "plain") == tokens(MODEL, "--cpu", "plain")
        os.symlink(bf16(), path("no-suffix"))
        assert tokens(path("no-suffix")) == tokens(MODEL)
        r = check(run(PROGRAM, "--model", bf16(), "--stats", "-", input=SOUND), 0)
        assert "weights bf16 name\n" in r.stderr.decode(), r.stderr

    def test_f16_and_f32_are_run(self):
        """Matrices of F32 or F16 whose values bf16 holds become bf16 again."""
        keys, tensors = gguf_file.read(bf16())
        for kind in ("F32", "F16"):
            changed = {}
            for name, (old, shape, data) in tensors.items():
                x = gguf_file.dequantise(old, shape, data)
                change = len(shape) > 1 and name != "frontend.mel_filterbank"
                changed[name] = (kind, shape, x.astype("<f2" if kind == "F16" else "<f4").tobytes()) if change else (old, shape, data)
            gguf_file.write(path("wide.gguf"), keys, changed)
            if kind == "F32":
                assert tokens(path("wide.gguf")) == tokens(MODEL)
            else:
                assert tokens(path("wide.gguf"))

    def test_f16_and_f32_of_their_own(self):
        """Values that bf16 does not hold, against the fp64 reference."""
        wav = path("clip.wav")
        with wave.open(wav, "wb") as f:
            f.setparams((1, 2, 16000, 0, "NONE", ""))
            f.writeframes(SOUND)
        keys, tensors = gguf_file.read(bf16())
        for kind in ("F32", "F16"):
            changed, random = {}, np.random.default_rng(1)
            for name, (old, shape, data) in tensors.items():
                x = gguf_file.dequantise(old, shape, data)
                if len(shape) > 1 and name != "frontend.mel_filterbank":
                    x = x * (1 + 0.003 * random.standard_normal(shape).astype(np.float32))
                    changed[name] = (kind, shape, x.astype("<f4" if kind == "F32" else "<f2").tobytes())
                else:
                    changed[name] = (old, shape, data)
            gguf_file.write(path("own.gguf"), keys, changed)
            ids, margins, _ = reference.transcribe(reference.Model(path("own.gguf"), "fp32"), reference.read_wav(wav), None, [])
            with open(path("force"), "w") as f:
                f.writelines(f"{i}\n" for i in ids)
            for more in ([], ["--threads", "1", "--cpu", "plain"]):
                out = tokens(path("own.gguf"), "--kv", "fp32", "--force", path("force"), *more).decode().splitlines()
                assert len(out) == len(ids)
                for line, i, margin in zip(out, ids, margins):
                    _, found, found_margin, _ = line.split("\t")
                    assert abs(float(found_margin) - margin) < 1e-4 and (int(found) == i or margin < 2e-4), (kind, line, i, margin)

    def test_mixes(self):
        """Which tensor has which type, and how far its weights may be from those that it was made of."""
        own = mistral_weights()
        want = {"q8_0": ("Q8_0", "Q8_0", "Q8_0"), "q6_k": ("Q6_K", "Q6_K", "Q6_K"), "q5_k_m": ("Q5_K", "Q8_0", "Q6_K"),
                "q4_k_m": ("Q4_K", "Q8_0", "Q6_K")}
        # of the root mean square of a matrix of random numbers
        off = {"Q8_0": 0.006, "Q6_K": 0.019, "Q5_K": 0.036, "Q4_K": 0.073, "F32": 0, "F16": 1e-3}
        for kind, (matrix, out, embedding) in want.items():
            keys, tensors = gguf_file.read(quantise(kind, kind + ".gguf"))
            found = gguf_file.weights(path(kind + ".gguf"))
            assert keys["general.file_type"][1] == {"q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q4_k_m": 15}[kind]
            assert set(tensors) - set(gguf_file.TABLES) and len(tensors) == len(own) + 3
            for name, (type_name, shape, _) in tensors.items():
                wanted = ("F32" if len(shape) == 1 or ".conv." in name or name in gguf_file.TABLES else
                          embedding if name == "dec.token_embd.weight" else
                          out if name.endswith((".attn.out.weight", ".attn.o.weight")) else matrix)
                if wanted != "F32" and shape[-1] % gguf_file.TYPES[wanted][1]:
                    wanted = "Q8_0"
                assert type_name == wanted, (kind, name, type_name, wanted)
                if name in gguf_file.TABLES:
                    continue
                a, b = own[gguf_file.mistral_name(name)], found[gguf_file.mistral_name(name)]
                error = float(np.sqrt(np.mean((a - b) ** 2.0) / np.mean(a ** 2.0)))
                assert error <= off[type_name], (kind, name, error)

    def test_rows_without_blocks(self):
        """Rows that cannot be divided into blocks of 32 are F16, and surtitle reads such a file."""
        odd = path("odd")
        make_checkpoint.write(odd, make_checkpoint.sizes("tiny", ["dim=100", "ada_dim=7", "hidden_dim=212", "head_dim=20", "n_heads=6",
                                                                  "n_kv_heads=3", "enc.dim=84", "enc.head_dim=40",
                                                                  "enc.n_heads=3", "enc.n_kv_heads=3", "enc.hidden_dim=150"]), gain=1.5)
        _, tensors = gguf_file.read(quantise("q4_k_m", "odd.gguf", odd))
        assert {kind for kind, shape, _ in tensors.values() if len(shape) == 2} == {"F16", "F32"}
        tokens(path("odd.gguf"))

    def test_same_bytes(self):
        """With any number of threads, from a folder or from its BF16 file."""
        one = read(quantise("q4_k_m", "a.gguf", MODEL, "--threads", "1"))
        for words in ([MODEL, "--threads", "5"], [bf16()]):
            assert read(quantise("q4_k_m", "b.gguf", *words)) == one
        assert read(quantise("bf16", "b.gguf", bf16())) == read(bf16())

    def test_usage(self):
        for words, said in ([["--type", "q4_0", MODEL, path("x")], "--type q4_0: one of q8_0, q6_k, q5_k_m, q4_k_m, bf16"],
                            [[MODEL, path("x")], "needs --type"], [["--type", "q8_0", MODEL], "needs IN and OUT.gguf"],
                            [["--type", "q8_0", MODEL, path("x"), "y"], "needs IN and OUT.gguf"],
                            [["--threads", "0", "--type", "q8_0", MODEL, path("x")], "--threads 0: a whole number from 1"],
                            [["--thread", "1", "--no"], "--no: there is no such option"], [["--type"], "--type: needs a value"],
                            [["--type", "bf16", bf16(), bf16()], "are the same file"]):
            check(run(QUANTIZE, *words), 2, said)
        own = shutil.copytree(MODEL, path("own"))
        for name in ("params.json", "tekken.json", "consolidated.safetensors"):
            before = read(os.path.join(own, name))
            os.symlink(os.path.join(own, name), path("to-" + name))
            for out in (os.path.join(own, name), path("to-" + name)):
                check(run(QUANTIZE, "--type", "q8_0", own, out), 2, "are the same file")
            assert read(os.path.join(own, name)) == before
        for option in ("--help", "-h"):
            assert check(run(QUANTIZE, option), 0).stdout.startswith(b"surtitle-quantize: ")
        for option in ("--version", "-V"):
            assert re.fullmatch(rb"surtitle-quantize \d+\.\d+\.\d+\n", check(run(QUANTIZE, option), 0).stdout)
        assert not os.path.exists(path("x"))

    def test_source(self):
        check(run(QUANTIZE, "--type", "q8_0", path("none"), path("x")), 4, "none/params.json: No such file or directory")
        quantise("q8_0", "q8.gguf")
        check(run(QUANTIZE, "--type", "q4_k_m", path("q8.gguf"), path("x")), 4, "q8.gguf is quantised already (q8_0)")
        bad = shutil.copytree(MODEL, path("bad"))
        with open(os.path.join(bad, "consolidated.safetensors"), "r+b") as f:
            f.seek(-2, os.SEEK_END)
            f.write(b"\xc0\x7f")  # a NaN, the last weight of the file
        check(run(QUANTIZE, "--type", "q8_0", bad, path("x")), 4, "holds a weight that is not finite")
        assert not [name for name in os.listdir(BOX) if name.startswith("x")]

    def test_target(self):
        folder = path("target")
        os.mkdir(folder)
        out = os.path.join(folder, "out.gguf")
        check(run(QUANTIZE, "--type", "q8_0", MODEL, folder), 1, "Is a directory")
        check(run(QUANTIZE, "--type", "q8_0", MODEL, "/dev/null"), 1, "/dev/null: ")
        check(run(QUANTIZE, "--type", "q8_0", MODEL, os.path.join(folder, "none", "out.gguf")), 1, "No such file or directory")
        with open(out, "w") as f:
            f.write("old")
        check(run(QUANTIZE, "--type", "q8_0", MODEL, out, preexec_fn=limited), 1, "out.gguf: File too large")
        assert os.listdir(folder) == ["out.gguf"] and read(out) == b"old"
        os.symlink("out.gguf", os.path.join(folder, "link"))
        check(run(QUANTIZE, "--type", "q8_0", MODEL, os.path.join(folder, "link")), 0)
        assert os.path.islink(os.path.join(folder, "link")) and len(gguf_file.read(out)[1]) > 3
        os.symlink("none.gguf", os.path.join(folder, "dangling"))
        check(run(QUANTIZE, "--type", "q8_0", MODEL, os.path.join(folder, "dangling")), 1, "No such file or directory")
        assert os.path.islink(os.path.join(folder, "dangling"))
        mask = os.umask(0)
        os.umask(mask)
        assert os.stat(out).st_mode & 0o777 == 0o666 & ~mask

    def test_signal_leaves_nothing(self):
        folder = path("signal")
        os.mkdir(folder)
        p = subprocess.Popen([QUANTIZE, "--type", "q4_k_m", big(), os.path.join(folder, "out.gguf")], env=ENV)
        while not os.listdir(folder) and p.poll() is None:
            time.sleep(0.005)
        p.send_signal(signal.SIGTERM)
        assert p.wait(LONG) in (-signal.SIGTERM, 0)
        assert [name for name in os.listdir(folder) if name != "out.gguf"] == []
        assert p.returncode == 0 or not os.listdir(folder)

    def test_source_is_cut(self):
        """The source is truncated while it is read: one line, and no file is left."""
        folder = path("cut")
        os.mkdir(folder)
        source = os.path.join(shutil.copytree(big(), path("cut-big")), "consolidated.safetensors")
        p = subprocess.Popen([QUANTIZE, "--type", "q4_k_m", path("cut-big"), os.path.join(folder, "out.gguf")], env=ENV,
                             stderr=subprocess.PIPE)
        while not os.listdir(folder) and p.poll() is None:
            time.sleep(0.005)
        p.send_signal(signal.SIGSTOP)
        complete = os.path.exists(os.path.join(folder, "out.gguf"))
        os.truncate(source, 4096)
        p.send_signal(signal.SIGCONT)
        line = p.communicate(timeout=LONG)[1].decode()
        assert p.returncode == 4 or (complete and p.returncode == 0), (p.returncode, line)
        assert p.returncode == 0 or line == f"surtitle-quantize: {source}: the file was cut while it was in use\n", line
        assert os.listdir(folder) == (["out.gguf"] if complete else [])

    def test_damage(self):
        keys, tensors = gguf_file.read(bf16())
        prefix, q = gguf_file.PREFIX, "dec.blocks.0.attn.q.weight"
        kind, shape, data = tensors[q]
        types = keys["tokenizer.ggml.token_type"][1]
        words = list(keys["tokenizer.ggml.tokens"][1])
        filters = np.frombuffer(tensors["frontend.mel_filterbank"][2], "<f4").copy()
        filters[np.argmax(filters)] *= 1.001
        cases = [
            (dict(key="general.architecture", value=(8, "llama")), "architecture llama"),
            (dict(key="general.architecture"), "general.architecture is missing"),
            (dict(key="split.count", value=(2, 3)), "split"),
            (dict(key=prefix + "decoder.hidden_size"), prefix + "decoder.hidden_size: is missing"),
            (dict(key=prefix + "decoder.hidden_size", value=(4, 70000)), "must be a whole number from 1 to 65536"),
            (dict(key=prefix + "decoder.hidden_size", value=(8, "192")), "must be a whole number"),
            (dict(key=prefix + "decoder.head_dim", value=(4, 31)), "head_dim must be even"),
            (dict(key=prefix + "encoder.hidden_act", value=(8, "relu")), 'must be "silu"'),
            (dict(key=prefix + "projector.downsample_factor", value=(4, 2)), "must be 4"),
            (dict(key=prefix + "decoder.tie_word_embeddings", value=(7, False)), "must be true"),
            (dict(key=prefix + "time.default_num_delay_tokens", value=(4, 16)), "must be 1 to 15, or 30"),
            (dict(key="stt.frontend.hop_length", value=(4, 128)), "must be 160"),
            (dict(key="tokenizer.ggml.tokens"), "must hold at least"),
            (dict(key="tokenizer.ggml.token_type", value=(("array", 5), types[:-1])), "must hold at least"),
            (dict(key="tokenizer.ggml.token_type", value=(("array", 5), [1] + types[1:])), "must come first"),
            (dict(key="tokenizer.ggml.tokens", value=(("array", 8), words[:-1] + ["a b"])), "not in the alphabet"),
            (dict(key="tokenizer.ggml.tokens", value=(("array", 8), ["<s>"] + words[1:])), "<s> is listed twice"),
            (dict(key="tokenizer.ggml.eos_token_id", value=(4, 3)), "must be 2"),
            (dict(tensor=q), q + " is missing"),
            (dict(tensor=q, instead=("Q4_0", shape, bytes(int(np.prod(shape)) // 32 * 18))), q + " is Q4_0"),
            (dict(tensor=q, instead=(kind, shape[::-1], data)), "the metadata asks for"),
            (dict(tensor="dec.output_norm.weight", instead=("Q8_0", (192,), bytes(192 // 32 * 34))), "is Q8_0; it can be BF16"),
            (dict(tensor="frontend.mel_filterbank", instead=("F32", (128, 201), filters.tobytes())), "mel_filterbank is not this model's"),
            (dict(tensor="frontend.window", instead=("F32", (400,), bytes(1600))), "frontend.window is not this model's"),
            (dict(tensor="dec.time_embed.inv_freq", instead=("F32", (7,), bytes(28))), "inv_freq must be F32"),
        ]
        for i, (changes, said) in enumerate(cases):
            check(run(PROGRAM, "--model", change("damaged.gguf", **changes), "--pcm", "s16le", "-", input=SOUND), 4, "damaged.gguf: ", said)
            if i % 5 == 0:
                check(run(QUANTIZE, "--type", "q8_0", path("damaged.gguf"), path("x")), 4, said)
        whole = read(bf16())
        for n in (4, 100, len(whole) // 2, len(whole) - 64):
            with open(path("cut.gguf"), "wb") as f:
                f.write(whole[:n])
            check(run(PROGRAM, "--model", path("cut.gguf"), "--pcm", "s16le", "-", input=SOUND), 4, "cut.gguf: ")
        with open(path("text.gguf"), "w") as f:
            f.write("hello")
        check(run(PROGRAM, "--model", path("text.gguf"), "--pcm", "s16le", "-", input=SOUND), 4, "text.gguf: neither a folder nor a GGUF file")
        for changes in (dict(key="general.name", value=(8, "another")), dict(tensor="frontend.window"),
                        dict(tensor="extra", instead=("F32", (4,), bytes(16)))):
            r = check(run(PROGRAM, "--model", change("harmless.gguf", **changes), "--format", "tokens", "-", input=SOUND), 0)
            assert r.stdout == tokens(MODEL)

    def test_where_models_are_found(self):
        folder = os.path.join(BOX, "data", "surtitle", "model")
        os.makedirs(folder)
        shutil.copy(bf16(), os.path.join(folder, "a.gguf"))
        r = check(run(PROGRAM, "--format", "tokens", "--pcm", "s16le", "-", input=SOUND), 0)
        assert r.stdout == tokens(MODEL) and not r.stderr, r.stderr
        shutil.copy(bf16(), os.path.join(folder, "b.gguf"))
        check(run(PROGRAM, "--pcm", "s16le", "-", input=SOUND), 4, "surtitle/model holds more than one model: give --model PATH")
        os.remove(os.path.join(folder, "b.gguf"))
        shutil.copy(os.path.join(MODEL, "params.json"), folder)
        check(run(PROGRAM, "--pcm", "s16le", "-", input=SOUND), 4, "holds more than one model")


unittest.main(argv=[sys.argv[0], "-v", *sys.argv[4:]])

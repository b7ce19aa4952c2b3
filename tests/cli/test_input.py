#!/usr/bin/env python3
"""Real-world input: channels that are dead or cancel each other, files with a wrong header, containers, pipes. Everything in
a recording is captioned, or one line says what is not.

usage: test_input.py PROGRAM MODEL TINY [NAME...]
(MODEL: models/demo, status 77 while it has no weights; TINY: any small model, for comparing bits; NAME: as unittest takes
it, Input by default)
"""
import atexit, os, pty, shutil, subprocess, sys, tempfile, time, unittest, wave

import numpy as np

PROGRAM, MODEL, TINY = (os.path.abspath(a) for a in sys.argv[1:4])
if not os.path.exists(MODEL + "/consolidated.safetensors"):
    print("skipped: no weights in", MODEL)
    sys.exit(77)
BOX = tempfile.mkdtemp(prefix="surtitle-input.")
LONG = 120  # seconds: no run takes as long


def run(*args, data=None, **more):
    if data is not None:
        more["input"] = data
    return subprocess.run([PROGRAM, "--model", MODEL, *args], capture_output=True, timeout=LONG, **more)


def path(name, data=None):
    p = os.path.join(BOX, name)
    if data is not None:
        with open(p, "wb") as f:
            f.write(data)
    return p


def clip(name):
    """Samples of a bundled clip as int16, and its words."""
    with wave.open(f"{MODEL}/{name}.wav") as w:
        return np.frombuffer(w.readframes(w.getnframes()), "<i2"), open(f"{MODEL}/{name}.txt").read().split()


def make_wav(name, samples, rate=16000):
    """samples: [frames] or [frames, channels], int16 or -1..1."""
    if samples.dtype != np.int16:
        samples = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")
    with wave.open(path(name), "wb") as w:
        w.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(samples.tobytes())
    return path(name)


def expect(r, status, words=None, lines=0, holds=()):
    """Asserts the exit status, the words of the captions and the number of lines on standard error."""
    said, heard = r.stderr.decode(), r.stdout.decode().split()
    assert r.returncode == status, (r.args[3:], r.returncode, said)
    assert words is None or heard == words, (r.args[3:], " ".join(heard), said)
    assert said.count("\n") == lines and all(l.startswith("surtitle: ") for l in said.splitlines()), (r.args[3:], said)
    for part in holds:
        assert part in said, (r.args[3:], part, said)
    return r


def tokens(*args, **more):
    """Tokens and margins of the small model: they show every sample that differs."""
    return subprocess.run([PROGRAM, "--model", TINY, "--format", "tokens", *args], capture_output=True, timeout=LONG, **more)


def same(name, samples, status=0, lines=0, holds=()):
    """Asserts that a file, and its bytes on a pipe, are read as these samples."""
    want = tokens("--pcm", "s16le", "-", input=samples).stdout
    for r in [tokens(path(name)), tokens("-", input=open(path(name), "rb").read())]:
        assert r.stdout == want, (r.args[-1], len(r.stdout), len(want), r.stderr)
        expect(r, status, None, lines, holds)


SPEECH, WORDS = clip("clip")
OTHER, OTHER_WORDS = clip("flite")


def lines(name, count, holds):
    """Asserts the lines about a file, and about its bytes on a pipe."""
    expect(tokens(path(name)), 0, None, count, holds)
    expect(tokens("-", input=open(path(name), "rb").read()), 0, None, count, holds)


def le(n, value):
    return value.to_bytes(n, "little")


def chunk(name, body, size=None, pad=True):
    return name + le(4, len(body) if size is None else size) + body + (b"\0" if len(body) & 1 and pad else b"")


def fmt(tag=1, channels=1, rate=16000, bits=16, block=None, extra=b""):
    block = channels * bits // 8 if block is None else block
    return chunk(b"fmt ", le(2, tag) + le(2, channels) + le(4, rate) + le(4, rate * block) + le(2, block) + le(2, bits) + extra)


def riff(*chunks, size=None, name=b"RIFF"):
    body = b"WAVE" + b"".join(chunks)
    return name + le(4, len(body) if size is None else size) + body


SHORT = SPEECH[8000:40000]
RAW = SHORT.tobytes()
MORE = OTHER[8000:24000].tobytes()
ORDINARY = riff(fmt(), chunk(b"data", RAW))


def make_aiff(name):
    rate = b"\x40\x0c\xfa\0\0\0\0\0\0\0"  # 16000 as a float of 80 bits
    big = lambda n, v: v.to_bytes(n, "big")
    comm = b"COMM" + big(4, 18) + big(2, 1) + big(4, len(SHORT)) + big(2, 16) + rate
    body = b"AIFF" + comm + b"SSND" + big(4, len(RAW) + 8) + bytes(8) + SHORT.byteswap().tobytes()
    return path(name, b"FORM" + big(4, len(body)) + body)


class Input(unittest.TestCase):
    def test_dead_channels(self):
        rng = np.random.default_rng(1)
        for dead, level in [(0, 0.1), (3e-4, 0.25)]:
            x = rng.normal(0, dead, (len(SPEECH), 18))
            x[:, 3] += level * SPEECH / 32768
            expect(run(make_wav("many.wav", x)), 0, WORDS)
            pcm = np.round(x[:, 2:6] * 32767).astype("<i2").tobytes()
            expect(run("--pcm", "s16le", "--channels", "4", "-", data=pcm), 0, WORDS)

    def test_channel_by_number(self):
        one, other = SPEECH[8000:24000], OTHER[8000:24000]
        want = [tokens("--pcm", "s16le", "-", input=x.tobytes()).stdout for x in (one, other)]
        make_wav("two.wav", np.stack([one, other], 1))
        for how in [[path("two.wav")], ["--pace", path("two.wav")], ["-"]]:
            data = open(path("two.wav"), "rb").read() if how == ["-"] else b""
            for number in [1, 2]:
                assert tokens("--channel", str(number), *how, input=data).stdout == want[number - 1]
            expect(tokens("--channel", "3", *how, input=data), 2, [], 1, ["--channel 3", "2 channels"])
        expect(tokens("--channel", "65", path("two.wav")), 2, [], 1, ["--channel", "1 to 64"])

    def test_antiphase(self):
        expect(run(make_wav("anti.wav", np.stack([SPEECH, -SPEECH], 1) / 32768)), 0, WORDS, 1, ["cancel each other"])

    def test_silence(self):
        expect(run(make_wav("zeros.wav", np.zeros(16000, "<i2"))), 0, [], 1, ["nothing but zeros"])
        for seconds in [1, 20]:
            make_wav("zeros.wav", np.zeros(16000 * seconds, "<i2"))
            lines("zeros.wav", 1, ["nothing but zeros"])
        make_wav("quiet.wav", SPEECH / 32768 / 1000)
        lines("quiet.wav", 1, ["-60 dBFS"])
        # once per occurrence
        gap, word = np.zeros(16000 * 6, "<i2"), SPEECH[8000:16000]
        make_wav("gaps.wav", np.concatenate([word, gap, word, gap, word]))
        lines("gaps.wav", 2, ["nothing but zeros"])

    def test_wav_sizes(self):
        n = len(RAW)
        for data, size in [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF - 36, 0x7FFFFFFF), (0x80000000, 0x80000024), (9600, 9636), (9601, 9637), (7, 43), (n + 1, n + 37), (n, n + 36), (n, 0), (4, n + 36)]:
            path("w.wav", riff(fmt(), chunk(b"data", RAW, data), size=size))
            same("w.wav", RAW)
        for name in [b"RF64", b"BW64"]:
            for ds64 in [n, 0, 9600, 2**64 - 1]:
                path("w.wav", riff(chunk(b"ds64", le(8, n + 72) + le(8, ds64) + le(8, n // 2) + le(4, 0)), fmt(),
                                   chunk(b"data", RAW, 2**32 - 1), size=2**32 - 1, name=name))
                same("w.wav", RAW)

    def test_wav_that_is_cut(self):
        for data in [len(RAW), 2000000]:
            path("cut.wav", riff(fmt(), chunk(b"data", RAW, data))[:50000])
            same("cut.wav", ORDINARY[44:50000], 1, 1, ["cut: it ends after 1.6 s of"])

    def test_what_stands_behind_the_data(self):
        """It is not sound. On a pipe it is read, so that the writer does not get SIGPIPE."""
        junk = bytes(np.random.default_rng(2).integers(0, 256, 300000, dtype=np.uint8))
        for tail in [chunk(b"LIST", b"INFO" + junk), chunk(b"id3 ", b"ID3\4" + junk), b"ID3\4\0\0\0\0\0\0" + junk, chunk(b"LIST", b"INFOx"),
                     chunk(b"bext", b"x" * 3, pad=False) + chunk(b"JUNK", junk), b"TAG" + b"x" * 125]:
            path("tail.wav", ORDINARY + tail)
            same("tail.wav", RAW)
        path("tail.wav", riff(fmt(), chunk(b"data", RAW), chunk(b"zzzz", junk)))
        same("tail.wav", RAW)
        path("two.wav", riff(fmt(), chunk(b"data", RAW[:16000]), chunk(b"data", RAW[16000:])))
        same("two.wav", RAW)
        script = 'set -o pipefail; cat "$1" | "$2" --model "$3" -'
        expect(subprocess.run(["bash", "-c", script, "bash", path("tail.wav"), PROGRAM, TINY], capture_output=True), 0)
        other = riff(fmt(rate=48000), chunk(b"data", bytes(400000)))
        path("other.wav", ORDINARY + other)
        same("other.wav", RAW, 1, 1, ["another WAV begins, of 48000 Hz"])
        r = subprocess.run(["bash", "-c", script + '; echo "${PIPESTATUS[0]}"', "bash", path("other.wav"), PROGRAM, TINY],
                           capture_output=True)
        assert r.stdout.endswith(b"\n0\n"), r.stdout  # the writer's status

    def test_joined_wavs(self):
        again, endless = riff(fmt(), chunk(b"data", MORE)), riff(fmt(), chunk(b"data", RAW, 0xFFFFFFFF), size=0xFFFFFFFF)
        for first, between in [(ORDINARY, b""), (endless, again[:12]), (ORDINARY + chunk(b"LIST", b"INFOabc", pad=False), b"")]:
            path("joined.wav", first + again)
            same("joined.wav", RAW + between + MORE)  # of unknown length: six samples of a header count as sound

    def test_another_kind_behind_a_wav(self):
        for name, begin in [("Ogg", b"OggS\0\2" + bytes(40)), ("FLAC", b"fLaC\0\0\0\x22" + bytes(40))]:
            path("mixed.wav", riff(fmt(), chunk(b"data", RAW)) + begin)
            same("mixed.wav", RAW, 1, 1, [f"is a WAV, but behind 2.0 s of it {name} begins, which is not read"])

    def test_wav_codings(self):
        x = SHORT.astype(np.int64)
        wide = lambda bits, n: b"".join(int(v << (bits - 16)).to_bytes(n, "little", signed=True) for v in x)
        swapped = SHORT.byteswap().tobytes()
        big = lambda n, v: v.to_bytes(n, "big")
        rifx = b"RIFX" + big(4, 36 + len(RAW)) + b"WAVEfmt " + big(4, 16) + big(2, 1) + big(2, 1) + big(4, 16000) + big(4, 32000) \
            + big(2, 2) + big(2, 16) + b"data" + big(4, len(RAW)) + swapped
        pcm, ambisonic = b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", b"\1\0\0\0\x21\7\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0"
        for name, wav in {
                "24 bits in 4 bytes": riff(fmt(bits=24, block=4), chunk(b"data", wide(32, 4))),
                "24 valid bits of 32": riff(fmt(0xFFFE, bits=32, extra=le(2, 22) + le(2, 24) + le(4, 4) + pcm), chunk(b"data", wide(32, 4))),
                "20 bits": riff(fmt(bits=20, block=3), chunk(b"data", wide(24, 3))), "12 bits": riff(fmt(bits=12, block=2), chunk(b"data", RAW)),
                "wrong frame size": riff(fmt(block=1), chunk(b"data", RAW)), "big-endian": rifx,
                "ambisonic": riff(fmt(0xFFFE, extra=le(2, 22) + le(2, 16) + le(4, 0) + ambisonic), chunk(b"data", RAW)),
                "chunk that is not padded": riff(chunk(b"JUNK", b"x" * 27, pad=False), fmt(), chunk(b"data", RAW))}.items():
            path("coding.wav", wav)
            same("coding.wav", RAW)
        for tag, name in [(2, "MS ADPCM"), (0x11, "IMA ADPCM"), (0x55, "MP3")]:
            wav = riff(fmt(tag, bits=4, block=256, extra=le(2, 2) + le(2, 505)), chunk(b"data", bytes(2560)))
            expect(run("-", data=wav), 1, [], 1, [name, "put this before it: ffmpeg -loglevel error -i - -f wav - |"])

    def test_standard_input(self):
        want = tokens("--pcm", "s16le", "-", input=RAW).stdout
        assert tokens(make_aiff("x.aiff")).stdout == want
        with open(path("x.aiff"), "rb") as f:  # no pipe: a file
            assert expect(tokens("-", stdin=f), 0).stdout == want
        with open(path("x.aiff"), "rb") as f:
            expect(tokens("-", input=f.read()), 1, [], 1, ["AIFF", "put this before it: ffmpeg"])
        r = expect(tokens("-", input=RAW), 0, None, 1, ["standard input is read as s16le, 16000 Hz, mono"])
        assert r.stdout == want
        for how in [["--pcm", "s16le"], ["--rate", "16000"], ["--channels", "1"], ["--log-level", "error"]]:
            assert expect(tokens(*how, "-", input=RAW), 0).stdout == want
        screen, terminal = pty.openpty()
        expect(tokens("-", stdin=terminal), 1, [], 1, ["standard input is a terminal"])
        for name in ["/dev/stdin", os.ttyname(terminal)]:
            expect(tokens(name, stdin=terminal), 1, [], 1, [name + " is a terminal"])
        os.close(screen), os.close(terminal)

    def test_what_ffmpeg_reads(self):
        m4a = b"\0\0\0\x20ftypM4A " + bytes(300)
        expect(tokens(path("a talk's.m4a", m4a)), 1, [], 1, ["MP4 or M4A", r"ffmpeg -loglevel error -i '" + BOX + r"/a talk'\''s.m4a' -f wav - | surtitle -"])
        expect(tokens("-", input=m4a), 1, [], 1, ["MP4 or M4A", "save it, then: ffmpeg -loglevel error -i FILE -f wav - | surtitle -"])
        expect(tokens("./-x.m4a", cwd=os.path.dirname(path("-x.m4a", m4a))), 1, [], 1, ["-i ./-x.m4a -f wav"])
        expect(tokens("https://radio.example/live?a=1&b=2"), 1, [], 1, ["ffmpeg -loglevel error -i 'https://radio.example/live?a=1&b=2' -f wav - | surtitle -"])
        for name, data in [("mkv", b"\x1aE\xdf\xa3\1\0\0\0\0\0\0\x1f" + bytes(90)), ("wma", b"\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\0\xAA" + bytes(90))]:
            r = expect(tokens(path("x." + name, data)), 1, [], 1, ["x." + name + " -f wav - | surtitle -"])
            assert b"--pcm" not in r.stderr
        for data, what in [(b"<!doctype html><html><body>not found</body></html>", "HTML"), (b"PK\3\4" + bytes(99), "zip"), (b"word " * 20, "text")]:
            expect(tokens("-", input=data), 1, [], 1, ["standard input is " + what + ", not sound"])
            expect(tokens(path("x.mp3", data)), 1, [], 1, ["x.mp3 is " + what + ", not sound"])

    def test_opened_for_writing_too(self):
        """surtitle - <> FILE: no other descriptor can write, so the file is finished."""
        with open(path("own.wav", riff(fmt(), chunk(b"data", RAW))), "r+b") as f:
            os.utime(path("own.wav"), (1, 1))
            assert expect(tokens("-", stdin=f), 0).stdout == tokens("--pcm", "s16le", "-", input=RAW).stdout

    def test_growing_file_from_within(self):
        """Standard input of which a part was read before: what is written later is heard, too."""
        want = tokens("--pcm", "s16le", "-", input=RAW).stdout
        with open(path("within.raw"), "wb", buffering=0) as f, open(path("within.raw"), "rb", buffering=0) as r:
            f.write(b"12345678" + RAW[:20000])
            r.read(8)
            p = subprocess.Popen([PROGRAM, "--model", TINY, "--format", "tokens", "--pcm", "s16le", "-"], stdin=r,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            first = os.read(p.stdout.fileno(), 1)
            f.write(RAW[20000:])
        out, err = p.communicate(timeout=LONG)
        assert p.returncode == 0 and first + out == want, (len(out), len(want), err)

    def test_growing_file(self):
        """With any kind of header, paced or not: everything is captioned that is written while the file is open."""
        want = tokens("--pcm", "s16le", "-", input=RAW).stdout
        for options in [["--pace", "--max-lag", "100"], []]:
            for size in [0, 9600, 0xFFFFFFFF, None]:
                wav = RAW if size is None else riff(fmt(), chunk(b"data", RAW, size), size=0 if size == 0 else size + 36 & 0xFFFFFFFF)
                raw = ["--pcm", "s16le"] if size is None else []
                with open(path("grow.wav"), "wb", buffering=0) as f:
                    f.write(wav[:20001])
                    p = subprocess.Popen([PROGRAM, "--model", TINY, "--format", "tokens", *options, *raw, path("grow.wav")],
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    first = os.read(p.stdout.fileno(), 1)  # captions come before the file is finished
                    for at in range(20001, len(wav), 15001):
                        f.write(wav[at:at + 15001])
                        time.sleep(0.2)
                out, err = p.communicate(timeout=LONG)
                assert p.returncode == 0 and first + out == want, (options, size, err)


class Long(unittest.TestCase):
    def test_wav_above_4_gib(self):
        """Sparse: 64 channels of doubles, silence for 43 s and then the end of the clip. The size wraps."""
        late = np.repeat(SPEECH[int(5.8 * 16000):] / 32768, 12)
        frame, zeros = 64 * 8, int(4.2e9) // 512 * 512
        total = zeros + len(late) * frame
        for size in [total % 2**32]:
            head = riff(fmt(3, 64, 192000, 64), chunk(b"data", b"", size), size=(size + 36) % 2**32)
            with open(path("big.wav"), "wb") as f:
                f.write(head)
                f.seek(len(head) + zeros)
                for i in range(0, len(late), 19200):
                    f.write(np.repeat(late[i:i + 19200, None], 64, axis=1).astype("<f8").tobytes())
            r = tokens("--stats", path("big.wav"))
            assert r.returncode == 0, (size, r.stderr)
            assert f"audio {total / frame / 192000:.3f} s".encode() in r.stderr, r.stderr
        os.unlink(path("big.wav"))


atexit.register(shutil.rmtree, BOX, ignore_errors=True)
unittest.main(argv=[sys.argv[0], *(sys.argv[4:] or ["Input"])])

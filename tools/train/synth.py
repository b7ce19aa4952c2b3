#!/usr/bin/env python3
"""Synthesize speech with word end times, and keep a pool of training sequences full of fresh speech.

usage: synth.py pool DIR --workers N --slots N     fill and refill the pool in DIR (a memory file system) until killed
       synth.py heldout FILE.npz --slots N         N sequences a family that are never trained on
       synth.py rate                               speed of each voice family on one core

Libraries, voice data and text come from the folder that setup.sh made ($SURTITLE_TRAIN, or ../../.carry).
A sequence is 28 s of 16 kHz audio and its token schedule at delay 0: a word whose last sample falls in frame f (80 ms)
is written from row f on as [STREAMING_WORD] and its pieces, a later word waits until the earlier one is out, the rest
is [STREAMING_PAD]. A delay of d tokens only shifts that schedule by d rows.
"""

import argparse, ctypes as C, json, os, random, signal, sys, time
import numpy as np
from scipy.signal import resample_poly
from text_weights import WEIGHTS

ROOT = os.environ.get("SURTITLE_TRAIN") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.carry")
TOKENS = 352  # frames of 80 ms in a training sequence
SAMPLES = TOKENS * 1280
PAD, WORD, FIRST = 32, 33, 1000  # [STREAMING_PAD], [STREAMING_WORD], id of the first text piece

# espeak-ng: language and variant are drawn apart. The HELD variants are never trained on.
LANGS = ["en-us"] * 5 + ["en"] * 3 + ["en-gb-x-rp", "en-gb-scotland", "en-us-nyc"]  # "en" is British
VARIANTS = [
    "",
    "",
    "m1",
    "m2",
    "m3",
    "m4",
    "m6",
    "m7",
    "m8",
    "f1",
    "f2",
    "f4",
    "klatt",
    "klatt2",
    "klatt4",
    "steph",
    "linda",
    "Andrea",
    "Andy",
    "anika",
    "max",
    "Mike",
    "paul",
    "john",
    "zac",
    "edward",
    "Gene",
    "Hugo",
    "norbert",
    "ed",
    "david",
    "belinda",
    "victor",
    "adam",
    "announcer",
    "aunty",
    "benjamin",
    "grandpa",
    "marcelo",
    "Storm",
    "shelby",
    "travis",
    "Lee",
    "Marco",
    "quincy",
]
HELD_VARIANTS = ["m5", "f3", "f5", "klatt3", "rob", "Annie", "steph2", "Michael", "caleb"]
# flite: voice number, its own mean pitch in Hz, sample rate. A setting inside both HELD bands, of stretch and of pitch
# relative to the voice's own, is for evaluation; training draws settings outside both.
FLITE = [("slt", 170.0, 16000), ("rms", 95.0, 16000), ("awb", 130.0, 16000), ("kal", 105.0, 8000)]
HELD_STRETCH, HELD_PITCH = (0.96, 1.08), (1.05, 1.15)
# Resampling to 16 kHz by simple ratios near the exact one also changes speed and pitch, by up to a tenth.
RATIOS = {
    22050: [
        (320, 441),
        (8, 11),
        (5, 7),
        (3, 4),
        (2, 3),
        (7, 10),
        (11, 15),
        (18, 25),
        (20, 29),
        (19, 25),
        (13, 18),
        (10, 13),
    ],
    16000: [(1, 1), (1, 1), (12, 13), (13, 12), (19, 20), (20, 19), (29, 30), (30, 29), (10, 11), (11, 10)],
    8000: [(2, 1), (2, 1), (19, 10), (21, 10), (15, 8), (17, 8), (9, 5), (11, 5)],
}


class Event(C.Structure):
    _fields_ = [
        ("type", C.c_int),
        ("uid", C.c_uint),
        ("text_pos", C.c_int),
        ("length", C.c_int),
        ("audio_ms", C.c_int),
        ("sample", C.c_int),
        ("user", C.c_void_p),
        ("id", C.c_char * 8),
    ]


class Voices:
    """espeak-ng and flite in one process."""

    def __init__(self):
        lib = lambda n: C.CDLL(os.path.join(ROOT, n), mode=C.RTLD_GLOBAL)
        lib("libpcaudio.so.0"), lib("libsonic.so.0")  # found by their names when libespeak-ng asks for them
        self.es = lib("libespeak-ng.so.1")
        rate = self.es.espeak_Initialize(2, 0, ROOT.encode(), 0)  # 2: synchronous, samples by callback
        if rate != 22050:
            raise RuntimeError(f"espeak-ng did not start (data in {ROOT}?)")
        self.chunks, self.events = [], []

        def collect(samples, n, ev):
            if samples and n > 0:
                self.chunks.append(np.ctypeslib.as_array(samples, (n,)).copy())
            i = 0
            while ev[i].type:
                if ev[i].type == 1:  # a word begins
                    self.events.append((ev[i].text_pos, ev[i].audio_ms))
                i += 1
            return 0

        self.callback = C.CFUNCTYPE(C.c_int, C.POINTER(C.c_short), C.c_int, C.POINTER(Event))(collect)
        self.es.espeak_SetSynthCallback(self.callback)
        self.fl = lib("libsay_flite.so")
        if self.fl.say_init():
            raise RuntimeError("flite did not start")
        F = C.c_float
        self.fl.say.argtypes = [
            C.c_int,
            C.c_char_p,
            F,
            F,
            F,
            C.c_void_p,
            C.c_int,
            C.c_void_p,
            C.c_int,
            C.c_void_p,
            C.c_void_p,
        ]
        self.pcm, self.ends = np.zeros(16000 * 60, np.int16), np.zeros(200, np.float32)

    def espeak(self, text, voice, rate, pitch, spread):
        """(samples, rate, word end samples) or None."""
        self.chunks.clear(), self.events.clear()
        if self.es.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError("no voice " + voice)
        for k, v in ((1, rate), (3, pitch), (4, spread)):
            self.es.espeak_SetParameter(k, v, 0)
        t = text.encode()
        self.es.espeak_Synth(t, len(t) + 1, 0, 1, 0, 1, None, None)
        if not self.chunks:
            return None
        a = np.concatenate(self.chunks)
        begins, p, known = [], 1, dict(reversed(self.events))
        for w in text.split():
            begins.append(known.get(p))
            p += len(w) + 1
        if begins[0] is None:
            return None
        # "of the" and the like are one word to espeak-ng: share its time by the letters.
        words, i = text.split(), 0
        total = len(a) * 1000 / 22050
        while i < len(words):
            j = i + 1
            while j < len(words) and begins[j] is None:
                j += 1
            if j - i > 3:
                return None
            if j > i + 1:
                end = begins[j] if j < len(words) else total
                n = sum(len(w) for w in words[i:j])
                done = 0
                for k in range(i + 1, j):
                    done += len(words[k - 1])
                    begins[k] = begins[i] + (end - begins[i]) * done / n
            i = j
        # A word ends at the last sound before the next one begins: pauses do not belong to it.
        loud = np.flatnonzero(np.abs(a) > 60)
        if len(loud) == 0:
            return None
        cuts = [int(b * 22.05) for b in begins[1:]] + [len(a)]
        ends = [int(loud[max(0, np.searchsorted(loud, c) - 1)]) + 1 for c in cuts]
        ends = [max(e, int(b * 22.05) + 1) for e, b in zip(ends, begins)]
        return a, 22050, ends

    def flite(self, text, voice, stretch, pitch, spread):
        n, r = C.c_int(), C.c_int()
        k = self.fl.say(
            voice,
            text.encode(),
            stretch,
            pitch,
            spread,
            self.pcm.ctypes.data,
            len(self.pcm),
            self.ends.ctypes.data,
            len(self.ends),
            C.byref(n),
            C.byref(r),
        )
        if k <= 0 or n.value != len(text.split()) or (self.ends[: n.value] < 0).any():
            return None
        return self.pcm[:k].copy(), r.value, [int(e * r.value) for e in self.ends[: n.value]]


def draw_voice(rng, held, family=None):
    """A setting: (family, arguments). `held` draws from the settings that training never uses."""
    family = family or ("espeak" if rng.random() < 0.55 else "flite")
    if family == "espeak":
        variant = rng.choice(HELD_VARIANTS if held else VARIANTS)
        return family, (
            rng.choice(LANGS) + ("+" + variant if variant else ""),
            rng.randint(115, 215),
            rng.randint(25, 75),
            rng.randint(20, 75),
        )
    v = rng.choice((0, 0, 1, 1, 2, 2, 3))
    while True:
        stretch, pitch = rng.uniform(0.8, 1.4), rng.uniform(0.75, 1.35)
        inside = HELD_STRETCH[0] <= stretch < HELD_STRETCH[1], HELD_PITCH[0] <= pitch < HELD_PITCH[1]
        if all(inside) if held else not any(inside):
            break
    return family, (v, stretch, pitch * FLITE[v][1], rng.uniform(5, 30))


def say(voices, rng, text, setting, warp=True):
    """Speak `text`: (float32 samples at 16 kHz, silence trimmed, level evened; word end samples) or None."""
    family, args = setting
    got = (voices.espeak if family == "espeak" else voices.flite)(text, *args)
    if got is None:
        return None
    a, rate, ends = got
    up, down = rng.choice(RATIOS[rate]) if warp else RATIOS[rate][0]
    x = a.astype(np.float32)
    if up != down:
        x = resample_poly(x, up, down).astype(np.float32)
    ends = [int(e * up / down) for e in ends]
    loud = np.flatnonzero(np.abs(x) > 60)
    if len(loud) < 800:
        return None
    lo = max(0, int(loud[0]) - 80)
    hi = min(len(x), max(int(loud[-1]) + 160, ends[-1]))
    x, ends = x[lo:hi], [max(1, min(e, hi) - lo) for e in ends]
    x *= 3000 / max(1.0, float(np.sqrt((x * x).mean())))
    return np.clip(x, -32000, 32000), ends


class Text:
    def __init__(self, held):
        self.by = {}
        for line in open(os.path.join(ROOT, "text/heldout.txt" if held else "text/train.txt")):
            source, s = line.rstrip("\n").split("\t")
            self.by.setdefault(source, []).append(s)
        self.words = open(os.path.join(ROOT, "text/words.txt")).read().split()
        self.sources, self.weights = list(WEIGHTS), list(WEIGHTS.values())
        self.held = held

    def sentence(self, rng):
        return rng.choice(self.by[rng.choices(self.sources, self.weights)[0]])

    def draw(self, rng):
        """A sentence; or words in random order, so that the model listens instead of guessing."""
        r = rng.random()
        if self.held or r > 0.28:
            return self.sentence(rng)
        n = rng.randint(1, 12)
        if r < 0.13:
            return " ".join(rng.choice(self.words) for _ in range(n))
        return " ".join(rng.choice(self.sentence(rng).split()).strip(",.") for _ in range(n))


class Pieces:
    """Words to token ids."""

    def __init__(self):
        merges = [tuple(m) for m in json.load(open(os.path.join(ROOT, "text/bpe.json")))]
        self.rank = {m: i for i, m in enumerate(merges)}
        self.pieces = [bytes([i]) for i in range(256)] + [(a + b).encode() for a, b in merges]
        self.id = {p: FIRST + i for i, p in enumerate(self.pieces)}
        self.vocab = FIRST + len(self.pieces)
        self.cache = {}

    def encode(self, word):
        if word not in self.cache:
            s = list(" " + word)
            while len(s) > 1:
                r, k = min((self.rank.get(q, 1 << 30), k) for k, q in enumerate(zip(s, s[1:])))
                if r == 1 << 30:
                    break
                s[k : k + 2] = [s[k] + s[k + 1]]
            self.cache[word] = [self.id[p.encode()] for p in s]
        return self.cache[word]

    def decode(self, ids):
        return b"".join(self.pieces[i - FIRST] for i in ids if FIRST <= i < self.vocab).decode("utf-8", "replace")


def clean(sentence):
    return [w.strip(",.") for w in sentence.split()]


def sequence(voices, rng, text, pieces, held=False, family=None):
    """One training sequence: (int16[SAMPLES], int16[TOKENS] schedule at delay 0, [(word, end sample)])."""
    x, words = np.zeros(SAMPLES, np.float32), []
    r = rng.random()
    # A third start with speech in the first sample; a few hold nothing but silence (the noise is added on the GPU).
    p = 0 if r < 0.33 else SAMPLES if r < 0.355 and not held else rng.randint(0, 32000)
    setting = draw_voice(rng, held, family)
    swap = rng.choice((0.1, 0.4, 0.9))  # one speaker mostly, or many in turn
    gap = rng.choice((1500, 8000, 20000))  # run together, or with pauses
    level = 1.0
    while p < SAMPLES:
        s = text.draw(rng)
        spoken = s if rng.random() < 0.5 else " ".join(clean(s))
        got = say(voices, rng, spoken, setting)
        if got:
            a, ends = got
            ws = list(zip(clean(s), ends))
            if not held and rng.random() < 0.08 and len(a) > 16000:
                # Cut in mid-word, at the end or at the start. The word cut has no target.
                c = rng.randint(4000, len(a) - 4000)
                if p and rng.random() < 0.5:
                    a, ws = a[:c], [(w, e) for w, e in ws if e <= c]
                else:
                    starts = [0] + [e for _, e in ws]
                    a, ws = a[c:], [(w, e - c) for (w, e), b in zip(ws, starts) if b >= c - 400]
            n = min(len(a), SAMPLES - p)
            x[p : p + n] = a[:n] * level
            words += [(w, p + e) for w, e in ws if p + e <= SAMPLES]
            p += len(a)
        p += int(rng.expovariate(1 / gap)) + 300
        if rng.random() < 0.04:
            p += rng.randint(16000, 64000)
        if rng.random() < swap:
            setting = draw_voice(rng, held, family)
            level = 10 ** (rng.uniform(-10, 0) / 20)
    y, free = np.full(TOKENS, PAD, np.int16), 0
    for w, e in words:
        i, ids = max(free, (e + 1279) // 1280 - 1), [WORD] + pieces.encode(w)
        free = i + len(ids)
        y[i:free] = ids[: max(0, TOKENS - i)]
    return x.astype(np.int16), y, words


class Pool:
    """Slots in memory-mapped files: audio, schedule, and one counter per slot (odd while it is being written)."""

    def __init__(self, where, slots=None, create=False):
        mode = "w+" if create else "r+"
        if not create:
            slots = os.path.getsize(where + "/count.i64") // 8
        self.slots = slots
        self.x = np.memmap(where + "/x.i16", np.int16, mode, shape=(slots, SAMPLES))
        self.y = np.memmap(where + "/y.i16", np.int16, mode, shape=(slots, TOKENS))
        self.count = np.memmap(where + "/count.i64", np.int64, mode, shape=(slots,))

    def write(self, slot, x, y):
        self.count[slot] += 1
        self.x[slot], self.y[slot] = x, y
        self.count[slot] += 1

    def hours(self):
        """Speech synthesized since the start, overwritten or not."""
        return int((self.count // 2).sum()) * TOKENS * 0.08 / 3600


def worker(where, number, workers, seed):
    os.nice(5)
    voices, text, pieces, pool = Voices(), Text(False), Pieces(), Pool(where)
    rng = random.Random(1000003 * number + seed)
    while True:
        for slot in range(number, pool.slots, workers):
            pool.write(slot, *sequence(voices, rng, text, pieces)[:2])


def fill(where, workers, slots, seed):
    """Run the workers; if one ends, for any reason, end them all and report it."""
    if workers < 1:
        sys.exit("synth.py: no workers")
    os.makedirs(where, exist_ok=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the caller ignores it, there is no child to wait for
    Pool(where, slots, create=True)
    kids = {}
    for i in range(workers):
        pid = os.fork()
        if pid == 0:
            worker(where, i, workers, seed)
            os._exit(1)
        kids[pid] = i
    signal.signal(signal.SIGTERM, lambda *_: (([os.kill(k, signal.SIGKILL) for k in kids]), os._exit(0)))
    pid, status = os.wait()
    for k in kids:
        if k != pid:
            os.kill(k, signal.SIGKILL)
    sys.exit(f"synth.py: worker {kids[pid]} ended with status {status}")


def heldout(path, n):
    """n sequences per family of sentences and settings never trained on, for checks during training."""
    voices, text, pieces, out = Voices(), Text(True), Pieces(), {}
    for family in ("espeak", "flite"):
        rng = random.Random(4242)
        got = [sequence(voices, rng, text, pieces, True, family) for _ in range(n)]
        out[family] = np.stack([g[0] for g in got])
        out[family + "_text"] = np.array([" ".join(w for w, _ in g[2]) for g in got])
    np.savez(path + ".tmp.npz", **out)
    os.replace(path + ".tmp.npz", path)


def rate():
    voices, text, pieces, rng = Voices(), Text(False), Pieces(), random.Random(3)
    for family in ("espeak", "flite"):
        t, n = time.time(), 0
        while time.time() - t < 10:
            x, y, words = sequence(voices, rng, text, pieces, family=family)
            n += 1
        rows = sum(1 + len(pieces.encode(w)) for w, _ in words)
        speed = n * TOKENS * 0.08 / (time.time() - t)
        print(f"{family} {speed:.0f} s of speech a second and core; last: {len(words)} words, {rows} rows of {TOKENS}")


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=("pool", "heldout", "rate"))
    ap.add_argument("dir", nargs="?")
    ap.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    ap.add_argument("--slots", type=int, default=24000)
    ap.add_argument("--seed", type=int, default=17)
    a = ap.parse_args()
    if a.what == "pool":
        fill(a.dir, a.workers, a.slots, a.seed)
    elif a.what == "heldout":
        heldout(a.dir, a.slots)
    else:
        rate()

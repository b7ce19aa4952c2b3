"""kill -9 at any moment leaves every output as docs/contract.md promises: a hundred runs, twenty of each format, ended at
random moments from before the first byte to after the last. What --output holds is the beginning of what a whole run
writes, and ends where a unit of its format does: a line of jsonl and tokens, a cue and its empty line in srt and vtt,
any byte of text. The caption file is a caption whole: what a run that nobody disturbs shows at some moment, or empty.
At most one file beside it is left, the one that was not renamed yet.

Arguments: program, folder of the demo model. 77: it is not there."""
import os, random, re, shutil, subprocess, sys, tempfile, time, wave

PROGRAM, MODEL = map(os.path.abspath, sys.argv[1:3])
BOX = tempfile.mkdtemp(prefix="surtitle-kill.")
SOUND = os.path.join(BOX, "talk.wav")
KILLS = 20
ENDS = {"text": "", "jsonl": "\n", "tokens": "\n", "srt": "\n\n", "vtt": "\n\n"}


def make_sound():
    with wave.open(SOUND, "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        for name in ["clip.wav", "espeak.wav", "flite.wav"]:
            with wave.open(os.path.join(MODEL, name)) as w:
                out.writeframes(w.readframes(w.getnframes()))


def start(name):
    return subprocess.Popen([PROGRAM, "--model", MODEL, "--threads", "1", "--format", name, "--output", "captions",
                             "--caption-file", "caption", SOUND], cwd=BOX, stdout=subprocess.DEVNULL)


def read(name):
    try:
        with open(os.path.join(BOX, name), encoding="utf-8") as f:
            return re.sub(r'"wall":"[^"]*"', "", f.read())
    except FileNotFoundError:
        return ""


def clear():
    for name in os.listdir(BOX):
        if name.startswith(("caption", ".surtitle-")):
            os.unlink(os.path.join(BOX, name))


def whole_run(name, shown):
    """Returns the output and the time taken; adds the contents of the caption file, as polled, to shown."""
    began, p = time.monotonic(), start(name)
    while p.poll() is None:
        shown.add(read("caption"))
    assert p.returncode == 0
    return read("captions"), time.monotonic() - began


def is_caption(text, words):
    """Whether a caption has up to two rows of consecutive words."""
    rows = text.split("\n")
    return text == "" or rows[-1] == "" and len(rows) <= 3 and " ".join(" ".join(rows).split()) in words


def main():
    if not os.path.exists(os.path.join(MODEL, "consolidated.safetensors")):
        print("there is no demo model")
        return 77
    make_sound()
    r = random.Random(1)
    shown, words, cut = set(), None, 0
    for name, end in ENDS.items():
        whole, seconds = whole_run(name, shown)
        assert len(whole) > 200 and whole.endswith(end), (name, whole)
        words = words or " ".join(whole.split())
        for _ in range(KILLS):
            clear()
            p = start(name)
            time.sleep(r.uniform(0, seconds))
            p.kill()
            p.wait()
            left, caption = read("captions"), read("caption")
            assert whole.startswith(left) and (not left or left.endswith(end) or left == "WEBVTT\n\n"), (name, left[-300:])
            assert is_caption(caption, words), caption
            files = [f for f in os.listdir(BOX) if f.startswith(".surtitle-")]
            assert len(files) <= 1, files
            cut += 0 < len(left) < len(whole)
        clear()
        print(f"{name}: {KILLS} runs ended within {seconds:.1f} s, all whole")
    assert all(is_caption(s, words) for s in shown) and len(shown) > 5, shown
    assert cut > KILLS, "hardly a run was ended while it wrote"
    print(f"{cut} of them while they wrote")
    return 0


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

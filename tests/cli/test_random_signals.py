"""Runs ended by one or two signals at random moments, from a file, standard input and a paced file, in every format: each
ends with status 0, with all that a format's reader needs, with the tokens of an undisturbed run up to the last second,
with an empty caption file and nothing beside it. Arguments: program, model, number of runs, and optionally a seed."""
import fcntl, json, os, random, re, signal, sys, threading, time

RUNS, SEED = int(sys.argv.pop(3)), int(sys.argv.pop(3)) if len(sys.argv) > 3 else 1
from program import LONG, make_wav, noise, path, run, start, wait_for_handler

SECONDS, TAIL = 6, 24  # the last steps depend on where the sound ended
CLIP, RAW = make_wav("clip.wav", noise(SECONDS)), noise(SECONDS)
WAYS = {"file": [CLIP], "stdin": ["-"], "pace": ["--pace", CLIP]}
TIME = r"\d\d:\d\d:\d\d[,.]\d{3}"


def steps(text):
    return [line.split("\t", 1) for line in text.splitlines()]


def check(kind, text, whole):
    """Asserts that the text is complete up to its end; "": the signal came before the sound."""
    if not text:
        return
    assert text.endswith("\n"), text[-200:]
    if kind == "jsonl":
        events = [json.loads(line) for line in text.splitlines()]
        assert events[0]["type"] == "start" and events[-1]["type"] == "end", events
        assert all(e["type"] in ("text", "skip") for e in events[1:-1]), events
    elif kind == "tokens":
        got, usual = steps(text), steps(whole)
        # a pipe that paused was flushed, and the silence made more steps
        assert [int(s[0]) for s in got] == list(range(len(got))) and len(got) <= len(usual) + TAIL, text[-300:]
        same = max(0, min(len(got), len(usual)) - TAIL)
        assert got[:same] == usual[:same], (len(got), len(usual))
    elif kind in ("srt", "vtt"):
        for block in text.removeprefix("WEBVTT\n\n").split("\n\n")[:-1]:
            assert re.match(r"(\d+\n)?" + f"{TIME} --> {TIME}\n.", block), block


def feed(p, r):
    """Writes the sound in pieces of random size, as fast as possible."""
    try:
        at = 0
        while at < len(RAW):
            n = r.randrange(1, 20000)
            p.stdin.write(RAW[at:at + n])
            at += n
        if r.random() < 0.5:
            p.stdin.close()
    except (BrokenPipeError, ValueError):
        pass


def one(number, whole):
    r = random.Random(SEED * 100003 + number)
    way, kind = r.choice(list(WAYS)), r.choice(list(whole))
    sent = r.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    moment, again = r.uniform(0, 1.5) ** 2 / 1.5, r.choice([None, 0, r.uniform(0, 0.3)])
    what = f"run {number}: {way}, {kind}, {sent.name} at {moment:.3f} s, again after {again}"
    os.makedirs(path(str(number)))
    p = start("--format", kind, "--log-level", "error", "--caption-file", path(str(number), "caption"), *WAYS[way])
    fcntl.fcntl(p.stdin, 1031, 1 << 20)
    feeding = threading.Thread(target=feed, args=(p, r), daemon=True)
    if way == "stdin":
        feeding.start()
    wait_for_handler(p)
    ender = threading.Thread(target=lambda: [time.sleep(moment), p.send_signal(sent),
                                             again is not None and [time.sleep(again), p.send_signal(sent)]])
    ender.start()
    out, err = p.stdout.read().decode(), p.stderr.read().decode()
    status = p.wait(LONG)
    ender.join()
    if feeding.is_alive():
        feeding.join(LONG)
    if not p.stdin.closed:
        p.stdin.close()
    try:
        assert status == 0, (status, err)
        assert all(re.match("surtitle: (this machine|captions)", line) for line in err.splitlines()), err
        check(kind, out, whole[kind])
        left = os.listdir(path(str(number)))
        assert left in ([], ["caption"]), left
        assert not left or open(path(str(number), "caption")).read() == "", "a caption stands for ever"
    except AssertionError as e:
        raise AssertionError(what) from e
    return way, len(out)


def main():
    whole = {kind: run("--format", kind, CLIP).stdout.decode() for kind in ["text", "jsonl", "tokens", "srt", "vtt"]}
    ended = [one(number, whole) for number in range(RUNS)]
    print(f"{RUNS} runs, {sum(n > 0 for _, n in ended)} of them with captions")


main()

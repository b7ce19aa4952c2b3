"""The program on a device that fails for good at some call: the contract's status, one line, what was said before stays
said, no hang. Arguments: program, the driver that computes nothing (fake_cuda.c, preloaded), a tiny random model."""
import os, subprocess, sys, tempfile, wave
from concurrent.futures import ThreadPoolExecutor

PROGRAM, FAKE, MODEL = (os.path.abspath(a) for a in sys.argv[1:4])
DONE, FAILED, USAGE, NO_BACKEND = 0, 1, 2, 5


def run(clip, at, *options, devices=1):
    """Status, lines of tokens, errors."""
    r = subprocess.run([PROGRAM, "--model", MODEL, "--backend", "cuda", "--format", "tokens", *options, clip],
                       env=dict(os.environ, LD_PRELOAD=FAKE, FAKE_CUDA_FAIL_AT=str(at), FAKE_CUDA_DEVICES=str(devices)), stdin=subprocess.DEVNULL,
                       capture_output=True, timeout=60)
    return r.returncode, r.stdout.decode().splitlines(), r.stderr.decode()


def check(clip, at, want, *options):
    status, tokens, errors = run(clip, at, *options)
    what = f"call {at} {' '.join(options)}: status {status}, {len(tokens)} tokens, {errors!r}"
    assert tokens == want[:len(tokens)], what
    if status == DONE:  # what fails while everything is given back does not matter
        assert tokens == want and not errors, what
        return False
    assert status == (FAILED if tokens else status) and status in (FAILED, NO_BACKEND), what
    assert errors.count("\n") == 1 and "illegal memory access" in errors, what
    return bool(tokens)


def main():
    with tempfile.TemporaryDirectory() as folder:
        clip = os.path.join(folder, "clip.wav")
        with wave.open(clip, "wb") as w:
            w.setparams((1, 2, 16000, 0, "NONE", ""))
            w.writeframes(bytes(range(256)) * 100)
        status, want, errors = run(clip, 0)
        assert status == DONE and len(want) > 15, (status, errors)
        assert run(clip, 0, "--pace") == (status, want, errors)
        # of three devices the last is not too old
        assert run(clip, 0, devices=3) == run(clip, 0, "--gpu", "2", devices=3) == (status, want, errors)
        for number, refusal, words in (("3", USAGE, "there is no GPU 3"), ("0", NO_BACKEND, "compute capability 7")):
            r = run(clip, 0, "--gpu", number, devices=3)
            assert r[0] == refusal and not r[1] and words in r[2] and r[2].count("\n") == 1, r
        with ThreadPoolExecutor(4) as pool:
            whole = list(pool.map(lambda at: check(clip, at, want), range(1, 900, 23)))
            paced = list(pool.map(lambda at: check(clip, at, want, "--pace"), range(1, 900, 37)))
    print(f"{len(whole)} whole, {len(paced)} paced; {sum(whole)} and {sum(paced)} of them with captions out")
    assert sum(whole) > 1 and sum(paced) > 1


main()

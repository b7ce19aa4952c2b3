"""What libraries write to descriptors 1 and 2 goes to the log only; what the C library writes before it aborts the program
reaches standard error. The library is a simulated libsndfile (noise.c, preloaded)."""
import array, os, re, signal, sys, threading, unittest

NOISE = os.path.abspath(sys.argv.pop(3))
from program import ENV, Terminal, full_pipe, main, noise, path, run, start


def make_aiff(name, seconds):
    """A file that libsndfile reads; WAVs have a reader of our own."""
    samples = array.array("h", noise(seconds))
    samples.byteswap()
    big = lambda n, v: v.to_bytes(n, "big")
    rate = b"\x40\x0c\xfa" + bytes(7)  # 16000 as a float of 80 bits
    body = b"AIFFCOMM" + big(4, 18) + big(2, 1) + big(4, len(samples)) + big(2, 16) + rate
    body += b"SSND" + big(4, 2 * len(samples) + 8) + bytes(8) + samples.tobytes()
    with open(path(name), "wb") as f:
        f.write(b"FORM" + big(4, len(body)) + body)
    return path(name)


CLIP = make_aiff("clip.aiff", 3)


def noisy(kind, *args, **more):
    return run("--format", "tokens", *args, CLIP, env=dict(ENV, LD_PRELOAD=NOISE, NOISE=kind), **more)


class Noise(unittest.TestCase):
    want = run("--format", "tokens", CLIP).stdout

    def test_not_among_captions(self):
        r = noisy("lines")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, self.want, b""))

    def test_in_the_log(self):
        r = noisy("lines", "--log-level", "debug")
        self.assertEqual((r.returncode, r.stdout), (0, self.want))
        for where in [b"1", b"2", b"stdout"]:
            self.assertIn(b"surtitle: debug: library output: noise on " + where + b"\n", r.stderr)
        for line in r.stderr.decode().splitlines():
            self.assertTrue(line.startswith("surtitle: "), line)

    def test_not_on_the_overlay(self):
        terminal = Terminal()
        p = terminal.start("--overlay", "--pace", CLIP, env=dict(ENV, TERM="xterm-256color", LD_PRELOAD=NOISE, NOISE="lines"))
        err = p.communicate(timeout=60)[1]
        self.assertEqual((p.returncode, err), (0, b""))
        self.assertNotIn(b"noise", terminal.shown)

    def test_descriptors_that_are_closed(self):
        for close in [[1], [2], [1, 2], [0, 1, 2]]:
            r = noisy("lines", preexec_fn=lambda fds=close: [os.close(fd) for fd in fds])
            self.assertEqual(r.returncode, 0)
            self.assertEqual((r.stdout, r.stderr), (b"" if 1 in close else self.want, b""))

    def test_a_full_standard_error(self):
        """Log lines without a reader delay neither captions nor the thread that reads a library's lines."""
        for kind in ["lines", "flood"]:
            reader, writer = full_pipe()
            r = noisy(kind, "--log-level", "debug", stderr=writer)
            self.assertEqual((r.returncode, r.stdout), (0, self.want))
            os.close(reader)
            os.close(writer)

    def test_lost_lines_are_counted(self):
        reader, writer = full_pipe()
        p = start("--format", "tokens", "--log-level", "debug", "--pace", CLIP, stderr=writer,
                          env=dict(ENV, LD_PRELOAD=NOISE, NOISE="lines"))
        os.close(writer)
        self.assertTrue(p.stdout.read(1))  # captions have begun, so lines were lost
        kept = bytearray()
        reading = threading.Thread(target=lambda: [kept.extend(b) for b in iter(lambda: os.read(reader, 65536), b"")])
        reading.start()
        p.communicate(timeout=60)
        reading.join(60)
        self.assertEqual(p.returncode, 0)
        self.assertTrue(re.search(rb"surtitle: standard error accepted nothing: lines lost here: \d+\n", kept), kept[-300:])

    def test_last_words(self):
        for kind, number in [("abort", -signal.SIGABRT), ("crash", -signal.SIGSEGV), ("exit", 7)]:
            r = noisy(kind)
            self.assertEqual((r.returncode, r.stderr), (number, b"the last words of a library\n"))


main()

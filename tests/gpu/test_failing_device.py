"""The program on a device that fails for good at some call: the contract's status, one error line, earlier captions are
kept, no hang. Arguments: program, the driver that computes nothing (fake_cuda.c, preloaded), a tiny random model."""
import os, subprocess, sys, tempfile, unittest, wave
from concurrent.futures import ThreadPoolExecutor

PROGRAM, FAKE, MODEL = (os.path.abspath(a) for a in sys.argv[1:4])
DONE, FAILED, USAGE, NO_BACKEND = 0, 1, 2, 5


class FailingDevice(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.clip = os.path.join(folder.name, "clip.wav")
        with wave.open(cls.clip, "wb") as w:
            w.setparams((1, 2, 16000, 0, "NONE", ""))
            w.writeframes(bytes(range(256)) * 100)
        cls.good = status, cls.want, errors = cls.run_program(0)
        assert status == DONE and len(cls.want) > 15, (status, errors)

    @classmethod
    def run_program(cls, at, *options, devices=1):
        """Status, lines of tokens, errors. The device fails from call `at` on; 0: never."""
        r = subprocess.run([PROGRAM, "--model", MODEL, "--backend", "cuda", "--format", "tokens", *options, cls.clip],
                           env=dict(os.environ, LD_PRELOAD=FAKE, FAKE_CUDA_FAIL_AT=str(at), FAKE_CUDA_DEVICES=str(devices)),
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return r.returncode, r.stdout.decode().splitlines(), r.stderr.decode()

    def fails_at(self, at, *options):
        """Whether call `at` failed with captions out."""
        status, tokens, errors = self.run_program(at, *options)
        what = f"call {at} {' '.join(options)}: status {status}, {len(tokens)} tokens, {errors!r}"
        self.assertEqual(tokens, self.want[:len(tokens)], what)
        if status == DONE:  # a failure while everything is freed is harmless
            self.assertTrue(tokens == self.want and not errors, what)
            return False
        self.assertIn(status, [FAILED] if tokens else [FAILED, NO_BACKEND], what)
        self.assertTrue(errors.count("\n") == 1 and "illegal memory access" in errors, what)
        return bool(tokens)

    def each_call(self, step, *options):
        with ThreadPoolExecutor(4) as pool:
            with_captions = sum(pool.map(lambda at: self.fails_at(at, *options), range(1, 900, step)))
        self.assertGreater(with_captions, 1)

    def test_whole(self):
        self.each_call(23)

    def test_paced(self):
        self.assertEqual(self.run_program(0, "--pace"), self.good)
        self.each_call(37, "--pace")

    def test_several_devices(self):
        """Of three devices all but the last are too old."""
        self.assertEqual(self.run_program(0, devices=3), self.good)
        self.assertEqual(self.run_program(0, "--gpu", "2", devices=3), self.good)
        for number, refusal, words in (("3", USAGE, "there is no GPU 3"), ("0", NO_BACKEND, "compute capability 7")):
            status, tokens, errors = self.run_program(0, "--gpu", number, devices=3)
            self.assertEqual((status, tokens, errors.count("\n")), (refusal, [], 1), errors)
            self.assertIn(words, errors)


unittest.main(argv=sys.argv[:1] + sys.argv[4:])

#!/usr/bin/env python3
"""Train the demo model on the pool that synth.py keeps filling. One process per GPU; run.sh starts them.

The schedule goes by time, not by steps: warm-up, then a cosine down to nothing at --seconds. Exports in Mistral's
layout (bf16) go to OUT/model every --eval-every seconds and at the end, each with word error rates on held-out speech
in the log.
"""

import argparse, datetime, math, os, queue, sys, threading, time
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from model import LEFT, Mel, Model, export, load, transcribe
from synth import FIRST, PAD, SAMPLES, TOKENS, Pieces, Pool

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
CUDA = torch.cuda.is_available()
DEV = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if CUDA else torch.device("cpu")
# 80 to 1200 ms and 2400 ms; 480 ms, the default, is a third of all, and the small ones, the hardest, come more often.
DELAYS = torch.tensor([0, 4, 4, 4, 3, 3, 22] + [2] * 9 + [0] * 14 + [3.0], device=DEV)


def log(*a):
    if RANK == 0:
        print(*a, flush=True)


def uniform(n, lo, hi):
    return torch.empty(n, 1, device=DEV).uniform_(lo, hi)


def chance(n, p):
    return (torch.rand(n, 1, device=DEV) < p).float()


def augment(x):
    """[B, N] speech in -1..1 -> the same through a random filter, room, level and noise, rounded to 16 bits."""
    B, N = x.shape
    M = 458752  # a round length for the transform, past N
    bins = M // 2 + 1
    f = torch.linspace(0, 1, bins, device=DEV)[None]
    # Filter: a smooth random curve in dB; now and then a low or a high cut.
    curve = F.interpolate(torch.randn(B, 1, 9, device=DEV) * 4, size=bins, mode="linear", align_corners=True)[:, 0]
    gain = chance(B, 0.7) * (curve + uniform(B, -8, 8) * (f - 0.3))
    gain = gain - chance(B, 0.15) * 40 * ((f - uniform(B, 0.4, 0.9)) * 12).clamp(0, 1)
    gain = gain - chance(B, 0.2) * 30 * (1 - f / uniform(B, 0.01, 0.04)).clamp(0, 1)
    spectrum = torch.fft.rfft(x, M) * 10 ** (gain / 20)
    # Room: decaying noise after the direct sound.
    t = torch.arange(6400, device=DEV)[None] / 16000
    tail = torch.randn(B, 6400, device=DEV) * torch.exp(-t / uniform(B, 0.015, 0.09)) * (t > 0.002)
    tail = tail / tail.pow(2).sum(1, keepdim=True).sqrt() * 10 ** (uniform(B, -18, 0) / 20) * chance(B, 0.4)
    tail[:, 0] = 1
    x = torch.fft.irfft(spectrum * torch.fft.rfft(tail, M), M)[:, :N]
    rms = x.pow(2).mean(1, keepdim=True).sqrt()
    level = 10 ** (uniform(B, -30, 6) / 20)
    x = x * (level * 0.09 / rms.clamp(min=0.02))
    # Noise: white to brown, steady or swelling, a sixth of the sequences without any.
    colour = (f + 0.003) ** (-uniform(B, -0.3, 1.0))
    noise = torch.fft.irfft(torch.fft.rfft(torch.randn(B, N, device=DEV), M) * colour, M)[:, :N]
    swell = F.interpolate(torch.randn(B, 1, 40, device=DEV) * 5, size=N, mode="linear")[:, 0]
    noise = noise / noise.pow(2).mean(1, keepdim=True).sqrt() * 10 ** (chance(B, 0.4) * swell / 20)
    loud = torch.where(rms > 1e-4, level * 0.09 * 10 ** (-uniform(B, 4, 45) / 20), 10 ** (uniform(B, -75, -12) / 20))
    x = (x + chance(B, 0.83) * loud * noise).clamp(-1, 32767 / 32768)
    return torch.round(x * 32768) / 32768


def schedule(y0, d):
    """Delay-0 schedules [B, TOKENS] and delays [B] -> input tokens, targets (none in the prompt) and places in the
    schedule, all [B, LEFT + TOKENS]."""
    B, T = y0.shape[0], LEFT + TOKENS
    at = torch.arange(T, device=DEV)[None] - LEFT - d[:, None]
    y = torch.where(at >= 0, y0.gather(1, at.clamp(0, TOKENS - 1)), PAD)
    tokens = torch.cat([torch.ones(B, 1, dtype=y.dtype, device=DEV), y[:, :-1]], 1)
    return tokens, torch.where(at >= 0, y, -100), at


def disturb(tokens, at, vocab):
    """Wrong tokens now and then, so that the decoder relies on the audio more than on its own output."""
    hit = (torch.rand(tokens.shape, device=DEV) < 0.07 * chance(len(tokens), 0.5)) & (at > 0)
    other = torch.where(
        torch.rand(tokens.shape, device=DEV) < 0.75,
        torch.randint(FIRST + 256, vocab, tokens.shape, device=DEV),
        torch.randint(PAD, PAD + 2, tokens.shape, device=DEV),
    )
    return torch.where(hit, other, tokens)


class Loader:
    """Batches drawn from the pool by threads, in pinned memory."""

    def __init__(self, pool, batch, seed):
        self.pool, self.batch, self.q = pool, batch, queue.Queue(6)
        for i in range(2):
            threading.Thread(target=self.run, args=(seed * 100 + i,), daemon=True).start()

    def run(self, seed):
        rng = np.random.default_rng(seed)
        while True:
            x, y = torch.empty(self.batch, SAMPLES, dtype=torch.int16), torch.empty(
                self.batch, TOKENS, dtype=torch.int16
            )
            if CUDA:
                x, y = x.pin_memory(), y.pin_memory()
            xn, yn, n = x.numpy(), y.numpy(), 0
            ready = np.flatnonzero(self.pool.count >= 2)
            while n < self.batch:
                s = rng.choice(ready)
                before = self.pool.count[s]
                xn[n], yn[n] = self.pool.x[s], self.pool.y[s]
                # A slot rewritten meanwhile is drawn again.
                n += before % 2 == 0 and self.pool.count[s] == before
            self.q.put((x, y))

    def next(self):
        x, y = self.q.get()
        return x.to(DEV, non_blocking=True), y.to(DEV, non_blocking=True).long()


def errors(ref, hyp):
    """Word edit distance."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, 1):
        last, row[0] = row[:], i
        for j, h in enumerate(hyp, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (r != h))
    return row[-1]


def evaluate(model, mel, pieces, held, delays, show=False):
    out = []
    for family in ("espeak", "flite"):
        x = torch.from_numpy(held[family]).to(DEV).float() / 32768
        refs = [str(t).split() for t in held[family + "_text"]]
        for d in delays:
            hyps = [pieces.decode(o).split() for o in transcribe(model, mel, x, d).tolist()]
            e = sum(errors(r, h) for r, h in zip(refs, hyps))
            out.append(f"{family}@{d * 80} {100 * e / sum(map(len, refs)):.1f}%")
            if show and d == 6:
                log("  ref:", " ".join(refs[0])[:300], "\n  hyp:", " ".join(hyps[0])[:300])
    return " ".join(out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("pool"), ap.add_argument("heldout"), ap.add_argument("out")
    ap.add_argument("--seconds", type=float, default=1260)
    ap.add_argument("--batch", type=int, default=40, help="sequences a GPU and step")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--warmup", type=int, default=600, help="steps")
    ap.add_argument("--eval-every", type=float, default=170)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--init", help="go on from this export")
    ap.add_argument("--no-compile", action="store_true")
    a = ap.parse_args()
    if CUDA:
        torch.cuda.set_device(DEV)
    if WORLD > 1:
        dist.init_process_group("nccl" if CUDA else "gloo", timeout=datetime.timedelta(seconds=300))
    torch.manual_seed(1)
    pieces = Pieces()
    model, mel = (load(a.init)[0].train() if a.init else Model(pieces.vocab)).to(DEV), Mel().to(DEV)
    if WORLD > 1:
        for p in model.parameters():
            dist.broadcast(p.data, 0)
    torch.manual_seed(1000 * a.seed + RANK)
    ps = list(model.parameters())
    log(f"{sum(p.numel() for p in ps) / 1e6:.2f} M parameters, vocabulary {pieces.vocab}, {WORLD} processes on {DEV}")
    opt = torch.optim.AdamW(
        [
            {"params": [p for p in ps if p.dim() > 1], "weight_decay": 0.03},
            {"params": [p for p in ps if p.dim() == 1], "weight_decay": 0},
        ],
        lr=a.lr,
        betas=(0.9, 0.98),
        eps=1e-8,
        fused=CUDA,
    )

    def loss_of(m, tokens, y, d):
        with torch.autocast(DEV.type, dtype=torch.bfloat16):
            logits = model.logits(model.decode(model.audio(m), tokens, d))
        return F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), ignore_index=-100)

    compiled = loss_of if a.no_compile else torch.compile(loss_of)

    pool = Pool(a.pool)
    t0 = time.time()
    while (pool.count >= 2).sum() < min(pool.slots, 20 * a.batch):
        time.sleep(0.5)
    log(f"pool: {pool.hours():.1f} h after {time.time() - t0:.0f} s more")
    loader = Loader(pool, a.batch, 7 * a.seed + RANK)

    def step(lr):
        x, y0 = loader.next()
        d = torch.multinomial(DELAYS, a.batch, replacement=True)
        m = mel(F.pad(augment(x.float() / 32768), (LEFT * 1280, 0)))
        tokens, y, at = schedule(y0, d)
        loss = compiled(m, disturb(tokens, at, pieces.vocab), y, d)
        loss.backward()
        if WORLD > 1:
            grads = [p.grad for p in ps]
            flat = torch._utils._flatten_dense_tensors(grads)
            dist.all_reduce(flat)
            torch._foreach_copy_(grads, torch._utils._unflatten_dense_tensors(flat / WORLD, grads))
        torch.nn.utils.clip_grad_norm_(ps, 1.0, foreach=True)
        for g in opt.param_groups:
            g["lr"] = lr
        opt.step()
        opt.zero_grad(set_to_none=True)
        return loss.detach()

    def save(name, final=False):
        size = export(model, pieces.pieces, f"{a.out}/{name}.new")
        os.system(f"rm -rf {a.out}/{name} && mv {a.out}/{name}.new {a.out}/{name}")
        rounded = load(f"{a.out}/{name}")[0].to(DEV)
        held = np.load(a.heldout)
        t = time.time()
        delays = (2, 3, 6, 12, 15, 30) if final else (2, 6, 12)
        rates = evaluate(rounded, mel, pieces, held, delays, final)
        log(f"  export {size} bytes; held out: {rates} ({time.time() - t:.0f} s)")

    step(1e-9)  # compiles
    if CUDA:
        torch.cuda.synchronize()
    if WORLD > 1:
        dist.barrier()
    log(f"compiled after {time.time() - t0:.0f} s")
    t0, n, last_eval, mean, elapsed = time.time(), 0, 0.0, [], 0.0
    mark = (0.0, 0)
    while True:
        if n % 20 == 0:  # all processes use the first one's clock
            clock = torch.tensor([time.time() - t0], device=DEV, dtype=torch.float64)
            if WORLD > 1:
                dist.broadcast(clock, 0)
            elapsed = clock.item()
            if elapsed >= a.seconds:
                break
        f = elapsed / a.seconds
        lr = (
            a.lr
            * min(1, (n + 1) / a.warmup)
            * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * max(0, f - 0.05) / 0.95)))
        )
        mean.append(step(lr))
        n += 1
        if n % 500 == 0 or (n < 500 and n % 100 == 0):
            l = torch.stack(mean).mean().item()
            mean = []
            now = time.time() - t0
            ms = 1000 * (now - mark[0]) / (n - mark[1])
            mark = (now, n)
            heard = n * a.batch * WORLD * TOKENS * 0.08 / 3600
            log(
                f"{n} {now:.0f} s loss {l:.4f} lr {lr:.1e} {ms:.1f} ms a step, heard {heard:.0f} h, "
                f"pool {pool.hours():.0f} h"
            )
            if not math.isfinite(l):
                sys.exit("train.py: the loss is not finite")
        if elapsed - last_eval >= a.eval_every and n % 20 == 0:
            last_eval = elapsed
            if RANK == 0:
                save("model")
    log(f"done: {n} steps of {a.batch * WORLD} sequences, {time.time() - t0:.0f} s, synthesized {pool.hours():.0f} h")
    if RANK == 0:
        save("model", True)
    log("finished")
    if WORLD > 1:
        dist.destroy_process_group()


main()

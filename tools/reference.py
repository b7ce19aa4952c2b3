#!/usr/bin/env python3
"""Voxtral Realtime in numpy and fp64: the reference for surtitle's tests. Written from docs/model.md.

The whole clip is computed at once (the offline schedule), greedily, and an end-of-sequence token is fed back like any
other. Slow and obvious on purpose: for small checkpoints. Needs numpy.

Prints STEP, ID and MARGIN a line; --out writes {"tokens": [...], "margins": [...]}; --stages writes arrays
mel [frames, mels], rows [tokens, dim] and logits [steps, vocab].
"""
import argparse
import json
import math
import os
import struct
import wave

import numpy as np

RATE = 16000
TOKEN_SAMPLES = 1280      # one token is 80 ms
WINDOW, HOP = 400, 160    # samples per mel frame, and between two frames
RIGHT_PAD_EXTRA = 10      # tokens of silence after those of the delay
EMBEDDER = "mm_streams_embeddings.embedding_module."
WHISPER = EMBEDDER + "whisper_encoder."

_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x):
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def silu(x):
    return x / (1.0 + np.exp(-x))


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x, positions, theta):
    """Rotary position of x [n, heads, head_dim]; pairs are (2j, 2j + 1). The frequencies are fp32 numbers."""
    head_dim = x.shape[-1]
    frequency = (theta ** (-np.arange(0, head_dim, 2) / head_dim)).astype(np.float32).astype(np.float64)
    angle = np.asarray(positions, np.float64)[:, None, None] * frequency
    cos, sin = np.cos(angle), np.sin(angle)
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


def attend(q, k, v, q_positions, k_positions, window):
    """q [n, heads, d], k and v [m, kv_heads, d]: key j is seen by query i when 0 <= i - j < window."""
    n, n_heads, head_dim = q.shape
    group = n_heads // k.shape[1]
    distance = np.asarray(q_positions)[:, None] - np.asarray(k_positions)[None, :]
    seen = (distance >= 0) & (distance < window)
    out = np.empty_like(q)
    for head in range(n_heads):
        scores = q[:, head] @ k[:, head // group].T / math.sqrt(head_dim)
        scores = np.where(seen, scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, head] = p / p.sum(axis=-1, keepdims=True) @ v[:, head // group]
    return out.reshape(n, n_heads * head_dim)


def mel_filters(n_mels):
    """Slaney's triangles over the 201 bins, each of area 2 / (width in Hz): [n_mels, 201]."""
    def to_mel(hz):
        return 15 + np.log(hz / 1000) * 27 / np.log(6.4) if hz >= 1000 else 3 * hz / 200

    def to_hz(mel):
        return np.where(mel >= 15, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)), 200 * mel / 3)

    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    edges = to_hz(np.linspace(to_mel(0.0), to_mel(RATE / 2), n_mels + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return triangles * 2 / (high - low)


def log_mel(samples, n_mels, log_max):
    """One frame per hop, frame k centred on sample 160 k, zeros outside: [len(samples) // 160, n_mels]."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    padded = np.concatenate([np.zeros(WINDOW // 2), samples, np.zeros(WINDOW // 2)])
    frames = np.stack([padded[HOP * k:HOP * k + WINDOW] for k in range(len(samples) // HOP)])
    power = np.abs(np.fft.rfft(frames * hann, axis=-1)) ** 2
    log = np.log10(np.maximum(power @ mel_filters(n_mels).T, 1e-10))
    return (np.maximum(log, log_max - 8) + 4) / 4


def causal_conv(x, weight, bias, n_zeros, stride):
    """x [n, in], weight [out, in, 3], with n_zeros zeros before the first row."""
    x = np.concatenate([np.zeros((n_zeros, x.shape[1])), x])
    starts = stride * np.arange((len(x) - 3) // stride + 1)
    return sum(x[starts + tap] @ weight[:, :, tap].T for tap in range(3)) + bias


class Model:
    """A checkpoint's sizes, special tokens and weights (dequantised, in fp64): a folder, or a GGUF file."""

    def __init__(self, path, kv="fp16"):
        self.kv = kv
        if os.path.isdir(path):
            self.read_folder(path)
        else:
            self.read_gguf(path)
        self.encoder_params = self.params["multimodal"]["whisper_model_args"]["encoder_args"]

    def read_folder(self, folder):
        with open(os.path.join(folder, "params.json")) as f:
            self.params = json.load(f)
        with open(os.path.join(folder, "tekken.json")) as f:
            tekken = json.load(f)
        special = {entry["token_str"]: entry["rank"] for entry in tekken["special_tokens"]}
        self.bos, self.pad = special["<s>"], special["[STREAMING_PAD]"]
        self.n_left_pad = tekken["audio"]["streaming_n_left_pad_tokens"]
        self.delay_ms = tekken["audio"]["transcription_delay_ms"]
        self.weights = {}
        with open(os.path.join(folder, "consolidated.safetensors"), "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
            data = f.read()
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                bits = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16
                self.weights[name] = bits.view(np.float32).astype(np.float64).reshape(entry["shape"])

    def read_gguf(self, path):
        import gguf_file
        keys, _ = gguf_file.read(path)
        self.params = gguf_file.params(keys)
        tokens = keys["tokenizer.ggml.tokens"][1]
        self.bos, self.pad = tokens.index("<s>"), tokens.index("[STREAMING_PAD]")
        self.n_left_pad = 32
        self.delay_ms = 80 * keys[gguf_file.PREFIX + "time.default_num_delay_tokens"][1]
        self.weights = {name: x.astype(np.float64) for name, x in gguf_file.weights(path).items()}

    def store(self, x):
        """A key or value after its rounding in the K/V cache."""
        return x if self.kv == "fp32" else np.clip(x, -65504, 65504).astype(np.float16).astype(np.float64)

    def linear(self, x, name):
        y = x @ self.weights[name + ".weight"].T
        return y + self.weights[name + ".bias"] if name + ".bias" in self.weights else y

    def swiglu(self, x, prefix):
        return self.linear(silu(self.linear(x, prefix + "w1")) * self.linear(x, prefix + "w3"), prefix + "w2")

    def qkv(self, x, prefix, p, positions):
        q = rotate(self.linear(x, prefix + "wq").reshape(len(x), p["n_heads"], -1), positions, p["rope_theta"])
        k = rotate(self.linear(x, prefix + "wk").reshape(len(x), p["n_kv_heads"], -1), positions, p["rope_theta"])
        v = self.linear(x, prefix + "wv").reshape(len(x), p["n_kv_heads"], -1)
        return q, self.store(k), self.store(v)

    def encode(self, mel):
        """mel [8 n, n_mels] to adapter rows [n, dim]."""
        p, w = self.encoder_params, self.weights
        conv = WHISPER + "conv_layers."
        x = gelu(causal_conv(mel, w[conv + "0.conv.weight"], w[conv + "0.conv.bias"], 2, 1))
        x = gelu(causal_conv(x, w[conv + "1.conv.weight"], w[conv + "1.conv.bias"], 1, 2))
        positions = np.arange(len(x))
        for i in range(p["n_layers"]):
            layer = f"{WHISPER}transformer.layers.{i}."
            y = rms_norm(x, w[layer + "attention_norm.weight"], p["norm_eps"])
            q, k, v = self.qkv(y, layer + "attention.", p, positions)
            y = attend(q, k, v, positions, positions, int(p["sliding_window"]))
            x = x + self.linear(y, layer + "attention.wo")
            y = rms_norm(x, w[layer + "ffn_norm.weight"], p["norm_eps"])
            x = x + self.swiglu(y, layer + "feed_forward.")
        x = rms_norm(x, w[WHISPER + "transformer.norm.weight"], p["norm_eps"])
        x = x.reshape(len(x) // 4, -1)  # four frames side by side
        projection = EMBEDDER + "audio_language_projection."
        return self.linear(gelu(self.linear(x, projection + "0")), projection + "2")

    def delay_factors(self, delay):
        """[layers, dim]: what the delay (in tokens) multiplies the second norm of each decoder layer by."""
        half = self.params["dim"] // 2
        angle = delay * np.exp(-math.log(10000) * np.arange(half) / half)
        t = np.concatenate([np.cos(angle), np.sin(angle)])
        names = [f"layers.{i}.ada_rms_norm_t_cond." for i in range(self.params["n_layers"])]
        return [1 + self.linear(gelu(self.linear(t, name + "0")), name + "2") for name in names]


class Decoder:
    """The decoder with its keys and values; one call takes the next positions."""

    def __init__(self, model, delay, n_positions):
        p = model.params
        self.model, self.factors, self.position = model, model.delay_factors(delay), 0
        shape = (p["n_layers"], n_positions, p["n_kv_heads"], p["head_dim"])
        self.keys, self.values = np.zeros(shape), np.zeros(shape)

    def step(self, x):
        """x [n, dim]: the inputs of the next n positions. Returns the logits [vocab] of the last one."""
        m, p, w = self.model, self.model.params, self.model.weights
        first, end, window = self.position, self.position + len(x), int(p["sliding_window"])
        positions = np.arange(first, end)
        oldest = max(0, first - window + 1)
        for i in range(p["n_layers"]):
            layer = f"layers.{i}."
            y = rms_norm(x, w[layer + "attention_norm.weight"], p["norm_eps"])
            q, self.keys[i, first:end], self.values[i, first:end] = m.qkv(y, layer + "attention.", p, positions)
            keys, values = self.keys[i, oldest:end], self.values[i, oldest:end]
            y = attend(q, keys, values, positions, np.arange(oldest, end), window)
            x = x + m.linear(y, layer + "attention.wo")
            y = rms_norm(x, w[layer + "ffn_norm.weight"], p["norm_eps"]) * self.factors[i]
            x = x + m.swiglu(y, layer + "feed_forward.")
        self.position = end
        return w[EMBEDDER + "tok_embeddings.weight"] @ rms_norm(x[-1], w["norm.weight"], p["norm_eps"])


def transcribe(model, samples, delay_ms=None, force=()):
    """samples: 16 kHz mono within [-1, 1). force: ids fed back instead of its own, as far as they go.
    Returns tokens, margins (best logit minus the second) and the stages."""
    delay = (delay_ms or model.delay_ms) // 80
    n_tokens = model.n_left_pad + -(-len(samples) // TOKEN_SAMPLES) + delay + 1 + RIGHT_PAD_EXTRA
    padded = np.zeros(n_tokens * TOKEN_SAMPLES)
    start = model.n_left_pad * TOKEN_SAMPLES
    padded[start:start + len(samples)] = samples

    audio = model.encoder_params["audio_encoding_args"]
    mel = log_mel(padded, audio["num_mel_bins"], audio["global_log_mel_max"])
    rows = model.encode(mel)
    embedding = model.weights[EMBEDDER + "tok_embeddings.weight"]
    prompt = [model.bos] + [model.pad] * (model.n_left_pad + delay)
    decoder = Decoder(model, delay, n_tokens)
    logits = [decoder.step(rows[:len(prompt)] + embedding[prompt])]
    tokens, margins = [], []
    while True:
        second, best = np.partition(logits[-1], -2)[-2:]
        tokens.append(int(np.argmax(logits[-1])))  # the lowest id of several equal ones
        margins.append(float(best - second))
        if decoder.position == n_tokens:
            return tokens, margins, {"mel": mel, "rows": rows, "logits": np.stack(logits)}
        k = len(tokens) - 1
        fed = force[k] if k < len(force) else tokens[k]
        logits.append(decoder.step(rows[decoder.position][None] + embedding[fed][None]))


def read_wav(path):
    with wave.open(path) as f:
        if (f.getframerate(), f.getnchannels(), f.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path}: must be 16 kHz, mono, 16 bits")
        return np.frombuffer(f.readframes(f.getnframes()), "<i2") / 32768.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the checkpoint: a folder, or a GGUF file")
    parser.add_argument("wav", help="16 kHz, mono, 16 bits")
    parser.add_argument("--delay-ms", type=int, help="default: the checkpoint's")
    parser.add_argument("--kv", choices=("fp16", "fp32"), default="fp16", help="how keys and values are kept")
    parser.add_argument("--force", metavar="FILE", help="ids to feed back, one per line")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--stages", metavar="FILE.npz")
    a = parser.parse_args()
    force = [int(line) for line in open(a.force)] if a.force else []
    tokens, margins, stages = transcribe(Model(a.model, a.kv), read_wav(a.wav), a.delay_ms, force)
    for step, (token, margin) in enumerate(zip(tokens, margins)):
        print(f"{step}\t{token}\t{margin:.6f}")
    if a.out:
        with open(a.out, "w") as f:
            json.dump({"tokens": tokens, "margins": margins}, f)
    if a.stages:
        np.savez_compressed(a.stages, **{name: stage.astype(np.float32) for name, stage in stages.items()})


if __name__ == "__main__":
    main()

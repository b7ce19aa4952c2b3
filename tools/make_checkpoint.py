#!/usr/bin/env python3
"""Write a checkpoint with random weights in Mistral's layout: params.json, tekken.json, consolidated.safetensors.

The text that such a model speaks is noise; sizes, layout and arithmetic are those of Voxtral Realtime. The same sizes
and seed give the same bytes. Needs numpy.
"""
import argparse
import base64
import json
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

N_MELS = 128
N_SPECIAL = 1000
EOS = 2
SPECIAL_NAMES = {0: "<unk>", 1: "<s>", EOS: "</s>", 24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 32: "[STREAMING_PAD]",
                 33: "[STREAMING_WORD]"}
CHUNK = 1 << 22  # elements drawn at a time, each chunk from a stream of its own

SIZES = {
    "full": {"dim": 3072, "n_layers": 26, "head_dim": 128, "hidden_dim": 9216, "n_heads": 32, "n_kv_heads": 8,
             "vocab_size": 131072, "sliding_window": 8192, "ada_dim": 32, "n_mels": N_MELS,
             "enc.dim": 1280, "enc.n_layers": 32, "enc.head_dim": 64, "enc.hidden_dim": 5120, "enc.n_heads": 32,
             "enc.n_kv_heads": 32, "enc.sliding_window": 750},
    "tiny": {"dim": 192, "n_layers": 3, "head_dim": 32, "hidden_dim": 384, "n_heads": 8, "n_kv_heads": 2,
             "vocab_size": 1512, "sliding_window": 64, "ada_dim": 32, "n_mels": N_MELS,
             "enc.dim": 128, "enc.n_layers": 3, "enc.head_dim": 32, "enc.hidden_dim": 512, "enc.n_heads": 4,
             "enc.n_kv_heads": 4, "enc.sliding_window": 48},
}


def tensors(c):
    """Name, shape and kind (weight, norm, bias, embedding) of every tensor, in the order of the file."""
    embedder = "mm_streams_embeddings.embedding_module."
    whisper = embedder + "whisper_encoder."
    e, dim = c["enc.dim"], c["dim"]
    yield embedder + "tok_embeddings.weight", (c["vocab_size"], dim), "embedding"
    yield whisper + "conv_layers.0.conv.weight", (e, c["n_mels"], 3), "weight"
    yield whisper + "conv_layers.0.conv.bias", (e,), "bias"
    yield whisper + "conv_layers.1.conv.weight", (e, e, 3), "weight"
    yield whisper + "conv_layers.1.conv.bias", (e,), "bias"
    q, kv, hidden = c["enc.n_heads"] * c["enc.head_dim"], c["enc.n_kv_heads"] * c["enc.head_dim"], c["enc.hidden_dim"]
    for i in range(c["enc.n_layers"]):
        layer = f"{whisper}transformer.layers.{i}."
        yield layer + "attention.wq.weight", (q, e), "weight"
        yield layer + "attention.wq.bias", (q,), "bias"
        yield layer + "attention.wk.weight", (kv, e), "weight"
        yield layer + "attention.wv.weight", (kv, e), "weight"
        yield layer + "attention.wv.bias", (kv,), "bias"
        yield layer + "attention.wo.weight", (e, q), "weight"
        yield layer + "attention.wo.bias", (e,), "bias"
        yield layer + "attention_norm.weight", (e,), "norm"
        yield layer + "feed_forward.w1.weight", (hidden, e), "weight"
        yield layer + "feed_forward.w2.weight", (e, hidden), "weight"
        yield layer + "feed_forward.w2.bias", (e,), "bias"
        yield layer + "feed_forward.w3.weight", (hidden, e), "weight"
        yield layer + "ffn_norm.weight", (e,), "norm"
    yield whisper + "transformer.norm.weight", (e,), "norm"
    yield embedder + "audio_language_projection.0.weight", (dim, 4 * e), "weight"
    yield embedder + "audio_language_projection.2.weight", (dim, dim), "weight"
    q, kv, hidden = c["n_heads"] * c["head_dim"], c["n_kv_heads"] * c["head_dim"], c["hidden_dim"]
    for i in range(c["n_layers"]):
        layer = f"layers.{i}."
        yield layer + "ada_rms_norm_t_cond.0.weight", (c["ada_dim"], dim), "weight"
        yield layer + "ada_rms_norm_t_cond.2.weight", (dim, c["ada_dim"]), "weight"
        yield layer + "attention.wk.weight", (kv, dim), "weight"
        yield layer + "attention.wo.weight", (dim, q), "weight"
        yield layer + "attention.wq.weight", (q, dim), "weight"
        yield layer + "attention.wv.weight", (kv, dim), "weight"
        yield layer + "attention_norm.weight", (dim,), "norm"
        yield layer + "feed_forward.w1.weight", (hidden, dim), "weight"
        yield layer + "feed_forward.w2.weight", (dim, hidden), "weight"
        yield layer + "feed_forward.w3.weight", (hidden, dim), "weight"
        yield layer + "ffn_norm.weight", (dim,), "norm"
    yield "norm.weight", (dim,), "norm"


def params(c):
    audio = {"sampling_rate": 16000, "frame_rate": 12.5, "num_mel_bins": c["n_mels"], "hop_length": 160,
             "window_size": 400, "chunk_length_s": None, "global_log_mel_max": 1.5, "transcription_format": "streaming"}
    encoder = {"audio_encoding_args": audio, "vocab_size": c["vocab_size"], "use_biases": True, "use_cache": False,
               "rope_theta": 1000000.0, "causal": True, "norm_eps": 1e-05, "pos_embed": "rope",
               "max_source_positions": None, "ffn_type": "swiglu", "norm_type": "rms_norm"}
    encoder.update({key[4:]: value for key, value in c.items() if key.startswith("enc.")})
    decoder = {key: c[key] for key in ("dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads",
                                       "vocab_size", "sliding_window")}
    return {**decoder, "use_biases": False, "causal": True, "rope_theta": 1000000.0, "norm_eps": 1e-05,
            "model_parallel": 1, "tied_embeddings": True, "model_max_length": 131072,
            "multimodal": {"whisper_model_args": {"encoder_args": encoder,
                                                  "downsample_args": {"downsample_factor": 4}}},
            "ada_rms_norm_t_cond": True, "ada_rms_norm_t_cond_dim": c["ada_dim"]}


def tekken(c):
    """The 256 bytes, then made-up words; a few more entries than the model uses, as in the published file."""
    vocab = []
    for rank in range(c["vocab_size"] - N_SPECIAL + 16):
        piece = bytes([rank]) if rank < 256 else b" w%d" % rank
        text = chr(rank) if rank < 128 else None if rank < 256 else piece.decode()
        vocab.append({"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": text})
    special = [{"rank": i, "token_str": SPECIAL_NAMES.get(i, f"<SPECIAL_{i}>"), "is_control": True}
               for i in range(N_SPECIAL)]
    return {"config": {"pattern": "[^ ]+| [^ ]+", "num_vocab_tokens": len(vocab), "default_vocab_size": c["vocab_size"],
                       "default_num_special_tokens": N_SPECIAL, "version": "v13"},
            "vocab": vocab, "special_tokens": special,
            "audio": {"sampling_rate": 16000, "frame_rate": 12.5, "transcription_delay_ms": 480,
                      "streaming_look_ahead_ms": 2.5, "streaming_look_back_ms": 52.5, "streaming_n_left_pad_tokens": 32,
                      "transcription_format": "streaming",
                      "audio_encoding_config": {"num_mel_bins": c["n_mels"], "hop_length": 160, "window_size": 400}}}


def to_bf16(x):
    """float32 to the upper 16 bits, nearest even. Overwrites x."""
    bits = x.view(np.uint32)
    bits += 0x7FFF + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype("<u2")


def draw(seed, name, shape, kind, chunk, gain, eos_scale):
    """Elements [chunk * CHUNK, ...) of a tensor. They depend on seed, name and chunk alone, not on other tensors."""
    n = min(CHUNK, int(np.prod(shape)) - chunk * CHUNK)
    random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode()), chunk]))
    if kind == "norm":
        return to_bf16((0.9 + 0.2 * random.random(n)).astype(np.float32))
    x = random.standard_normal(n, dtype=np.float32)
    fan_in = int(np.prod(shape[1:]))
    x *= np.float32(gain * fan_in ** -0.5 if kind == "weight" else 0.02)
    if kind == "embedding" and chunk == 0:
        x[EOS * fan_in:(EOS + 1) * fan_in] *= np.float32(eos_scale)
    return to_bf16(x)


def write(folder, c, seed=0, sparse=False, gain=1.0, eos_scale=1.0):
    """Writes the three files; returns how many bytes of weights there are."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "params.json"), "w") as f:
        json.dump(params(c), f, indent=2)
    with open(os.path.join(folder, "tekken.json"), "w") as f:
        json.dump(tekken(c), f)
    header, offset, jobs = {"__metadata__": {"format": "pt"}}, 0, []
    for name, shape, kind in tensors(c):
        n = int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + 2 * n]}
        jobs += [(name, shape, kind, i, offset + 2 * i * CHUNK) for i in range((n + CHUNK - 1) // CHUNK)]
        offset += 2 * n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "consolidated.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + offset)
        f.flush()
        if not sparse:
            def job(j):
                os.pwrite(f.fileno(), draw(seed, *j[:4], gain, eos_scale).tobytes(), 8 + len(text) + j[4])
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                list(pool.map(job, jobs))
    return offset


def sizes(name, settings):
    """A size by name with settings ("enc.n_heads=3") applied. SystemExit names a setting that does not exist."""
    c = dict(SIZES[name])
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in c or not value.isdigit():
            raise SystemExit(f"--set {setting}: KEY=NUMBER, KEY one of {' '.join(c)}")
        c[key] = int(value)
    return c


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where to write; created if needed")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=N", help="sizes by name; enc.KEY for the encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sparse", action="store_true", help="only the header and the length: the weights are a hole in the file")
    parser.add_argument("--gain", type=float, default=1.0, metavar="X",
                        help="scale of the weights: with 1.5 the tokens depend on the sound, with 1 hardly")
    parser.add_argument("--eos-bias", type=float, default=1.0, metavar="X", dest="eos_scale",
                        help="scale of EOS's embedding row: with --gain 1.5, a scale of 2 to 3 makes it win a tenth of the steps")
    a = parser.parse_args()
    c = sizes(a.size, a.set)
    n_bytes = write(a.folder, c, a.seed, a.sparse, a.gain, a.eos_scale)
    print(f"{a.folder}: {sum(1 for _ in tensors(c))} tensors, {n_bytes} bytes of weights")


if __name__ == "__main__":
    main()

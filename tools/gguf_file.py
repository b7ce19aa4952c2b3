"""Reads, dequantises and writes GGUF files of the model, in numpy. Independent of the C code, which tests compare with it.

A file is (keys, tensors): keys {name: (type, value)} with GGUF's numbers of types (an array's type is ("array", type)),
tensors {name: (type name, shape with the rows first, bytes)}. Needs numpy.
"""
import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# name: number, values per block, bytes per block
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
         "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "BF16": (30, 1, 2)}
NAMES = {number: name for name, (number, _, _) in TYPES.items()}
ALIGNMENT = 32
PREFIX = "stt.voxtral_realtime."


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, kind):
        size = struct.calcsize(SCALARS[kind])
        self.at += size
        return struct.unpack(SCALARS[kind], self.data[self.at - size:self.at])[0]

    def string(self):
        n = self.scalar(10)
        self.at += n
        return bytes(self.data[self.at - n:self.at]).decode()

    def value(self, kind):
        return self.string() if kind == STRING else self.scalar(kind)


def read(path):
    r = Reader(memoryview(np.fromfile(path, np.uint8)))
    assert bytes(r.data[:4]) == b"GGUF", path
    r.at = 4
    assert r.scalar(U32) == 3
    n_tensors, n_keys = r.scalar(10), r.scalar(10)
    keys, infos, tensors = {}, [], {}
    for _ in range(n_keys):
        name, kind = r.string(), r.scalar(U32)
        if kind == ARRAY:
            element, n = r.scalar(U32), r.scalar(10)
            keys[name] = (("array", element), [r.value(element) for _ in range(n)])
        else:
            keys[name] = (kind, r.value(kind))
    for _ in range(n_tensors):
        name, n_dims = r.string(), r.scalar(U32)
        shape = tuple(r.scalar(10) for _ in range(n_dims))[::-1]
        infos.append((name, shape, NAMES[r.scalar(U32)], r.scalar(10)))
    begin = -(-r.at // ALIGNMENT) * ALIGNMENT
    for name, shape, kind, offset in infos:
        _, values, size = TYPES[kind]
        n = int(np.prod(shape)) // values * size
        tensors[name] = (kind, shape, bytes(r.data[begin + offset:begin + offset + n]))
    return keys, tensors


def write(path, keys, tensors):
    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def value(kind, v):
        return string(v) if kind == STRING else struct.pack(SCALARS[kind], v)

    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys))]
    for name, (kind, v) in keys.items():
        out.append(string(name))
        if isinstance(kind, tuple):
            out.append(struct.pack("<IIQ", ARRAY, kind[1], len(v)) + b"".join(value(kind[1], x) for x in v))
        else:
            out.append(struct.pack("<I", kind) + value(kind, v))
    offset, body = 0, []
    for name, (kind, shape, data) in tensors.items():
        out.append(string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], TYPES[kind][0], offset))
        body.append(data + bytes(-len(data) % ALIGNMENT))
        offset += len(body[-1])
    header = b"".join(out)
    with open(path, "wb") as f:
        f.write(header + bytes(-len(header) % ALIGNMENT))
        f.writelines(body)


def scales_k(s):
    """The eight scales and eight minimums in the twelve bytes of Q4_K and Q5_K: [blocks, 8] each."""
    scale = np.concatenate([s[:, :4] & 63, (s[:, 8:] & 15) | (s[:, :4] >> 6) << 4], axis=1)
    minimum = np.concatenate([s[:, 4:8] & 63, s[:, 8:] >> 4 | (s[:, 4:8] >> 6) << 4], axis=1)
    return scale.astype(np.float32), minimum.astype(np.float32)


def half(block, at):
    return np.ascontiguousarray(block[:, at:at + 2]).view("<f2").astype(np.float32)


def dequantise(kind, shape, data):
    """The weights in fp32."""
    if kind in ("F32", "F16"):
        return np.frombuffer(data, "<f4" if kind == "F32" else "<f2").astype(np.float32).reshape(shape)
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    b = np.frombuffer(data, np.uint8).reshape(-1, TYPES[kind][2])
    if kind == "Q8_0":
        return (half(b, 0) * b[:, 2:].view(np.int8).astype(np.float32)).reshape(shape)
    if kind == "Q6_K":
        low, high, scale = b[:, :128].reshape(-1, 2, 2, 32), b[:, 128:192].reshape(-1, 2, 1, 32), b[:, 192:208].view(np.int8)
        q = np.concatenate([low & 15, low >> 4], axis=2) | (high >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3) << 4
        d = half(b, 208) * scale.astype(np.float32)
        return (d[:, :, None] * (q.reshape(-1, 16, 16).astype(np.float32) - 32)).reshape(shape)
    scale, minimum = scales_k(b[:, 4:16])
    nibbles = b[:, 48 if kind == "Q5_K" else 16:].reshape(-1, 4, 1, 32)
    q = np.concatenate([nibbles & 15, nibbles >> 4], axis=2).reshape(-1, 8, 32)
    if kind == "Q5_K":
        q = q | (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1) << 4
    return ((half(b, 0) * scale)[:, :, None] * q.astype(np.float32) - (half(b, 2) * minimum)[:, :, None]).reshape(shape)


def interleaved(x, head_dim):
    """Rows in halves order, as the file has those of q and k, in the order of Mistral's layout."""
    return x.reshape(-1, 2, head_dim // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


LAYER = {"attn.q": "attention.wq", "attn.k": "attention.wk", "attn.v": "attention.wv", "attn.out": "attention.wo",
         "attn.o": "attention.wo", "norm_attn": "attention_norm", "norm_ffn": "ffn_norm", "ffn.gate": "feed_forward.w1",
         "ffn.down": "feed_forward.w2", "ffn.up": "feed_forward.w3", "ada.linear_1": "ada_rms_norm_t_cond.0",
         "ada.linear_2": "ada_rms_norm_t_cond.2"}
EMBEDDER = "mm_streams_embeddings.embedding_module."
TOP = {"dec.token_embd": EMBEDDER + "tok_embeddings", "enc.conv.0": EMBEDDER + "whisper_encoder.conv_layers.0.conv",
       "enc.conv.1": EMBEDDER + "whisper_encoder.conv_layers.1.conv", "dec.output_norm": "norm",
       "enc.final_norm": EMBEDDER + "whisper_encoder.transformer.norm",
       "proj.linear_1": EMBEDDER + "audio_language_projection.0", "proj.linear_2": EMBEDDER + "audio_language_projection.2"}
TABLES = ("frontend.mel_filterbank", "frontend.window", "dec.time_embed.inv_freq")


def mistral_name(name):
    stem, end = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{end}"
    tower, _, layer, rest = stem.split(".", 3)
    prefix = EMBEDDER + "whisper_encoder.transformer." if tower == "enc" else ""
    return f"{prefix}layers.{layer}.{LAYER[rest]}.{end}"


def weights(path):
    """{name in Mistral's layout: fp32}, rows in its order."""
    keys, tensors = read(path)
    out = {}
    for name, (kind, shape, data) in tensors.items():
        if name in TABLES:
            continue
        x = dequantise(kind, shape, data)
        if ".attn.q." in name or ".attn.k." in name:
            tower = "encoder." if name.startswith("enc") else "decoder."
            x = interleaved(x, keys[PREFIX + tower + "head_dim"][1])
        out[mistral_name(name)] = x
    return out


def params(keys):
    """The part of params.json that tools/reference.py reads."""
    def get(key):
        kind, v = keys[PREFIX + key]
        return float(str(np.float32(v))) if kind == F32 else v  # the decimal number that was rounded to it

    def tower(prefix, dim, hidden):
        return {"dim": get(prefix + dim), "hidden_dim": get(prefix + hidden), "norm_eps": get(prefix + "rms_norm_eps"),
                **{k: get(prefix + k) for k in ("n_layers", "head_dim", "n_heads", "n_kv_heads", "rope_theta",
                                                "sliding_window")}}

    log_max = float(str(np.float32(keys["stt.frontend.global_log_mel_max"][1])))
    encoder = tower("encoder.", "d_model", "ffn_dim")
    encoder["audio_encoding_args"] = {"num_mel_bins": get("encoder.num_mel_bins"), "global_log_mel_max": log_max}
    return {**tower("decoder.", "hidden_size", "intermediate_size"), "vocab_size": get("decoder.vocab_size"),
            "ada_rms_norm_t_cond_dim": get("time.ada_hidden"),
            "multimodal": {"whisper_model_args": {"encoder_args": encoder}}}

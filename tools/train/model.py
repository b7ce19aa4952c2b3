"""The demo model in PyTorch: Voxtral Realtime's architecture at small sizes, its mel spectrogram, the export.

Both attention windows equal the block length of the attention below: a query of block b sees only keys of blocks b-1
and b, so that windowed attention is exact and cheap on sequences many windows long, and training sees the very mask
that the streaming program uses.
"""

import base64, json, math, os, struct
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

LEFT = 32  # tokens of silence before the first sample
ENC = dict(dim=256, n_layers=6, head_dim=64, n_heads=4, hidden_dim=1024, window=128)
DEC = dict(dim=256, n_layers=5, head_dim=64, n_heads=4, n_kv_heads=2, hidden_dim=768, window=64)
ADA = 32
THETA, EPS = 1e6, 1e-5


def mel_filters():
    """Slaney mel filters with Slaney norm, 128 from 0 to 8000 Hz, for a DFT of 400 points: [201, 128]."""
    to_mel = lambda f: np.where(f >= 1000, 15 + np.log(np.maximum(f, 1e-9) / 1000) * 27 / np.log(6.4), 3 * f / 200)
    to_hz = lambda m: np.where(m >= 15, 1000 * np.exp(np.log(6.4) / 27 * (m - 15)), 200 * m / 3)
    f = np.linspace(0, 8000, 201)
    p = to_hz(np.linspace(to_mel(np.array(0.0)), to_mel(np.array(8000.0)), 130))
    d, s = np.diff(p), p[:, None] - f[None]
    w = np.maximum(0, np.minimum(-s[:-2] / d[:-1, None], s[2:] / d[1:, None])) * (2 / (p[2:] - p[:-2]))[:, None]
    return torch.tensor(w.T, dtype=torch.float32)


class Mel(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(400), persistent=False)

    def forward(self, x):
        """[B, N] audio, left pad included, N a multiple of 160 -> [B, 128, N/160]."""
        s = torch.stft(x, 400, 160, window=self.window, center=True, return_complex=True)[..., :-1]
        p = (s.real**2 + s.imag**2).transpose(1, 2) @ self.filters
        return ((p.clamp(min=1e-10).log10().clamp(min=1.5 - 8) + 4) / 4).transpose(1, 2)


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + EPS) * self.weight).to(x.dtype)


def angles(positions, head_dim):
    """cos and sin [T, head_dim/2]; double positions, for streams never end."""
    inv = THETA ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float64) / head_dim)
    a = positions.double()[:, None] * inv[None]
    return a.cos().float(), a.sin().float()


def rotate(x, cs):
    """Interleaved pairs; x [B, H, T, D]."""
    c, s = cs
    a, b = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2).to(x.dtype)


def window_attention(q, k, v, w):
    """Key j is seen by query i when 0 <= i - j < w. [B, H, T, D], T a multiple of w."""
    B, H, T, D = q.shape
    n = T // w

    def pairs(t):  # the block before and the block itself
        t = t.reshape(B, H, n, w, D)
        return torch.cat([F.pad(t[:, :, :-1], (0, 0, 0, 0, 1, 0)), t], 3).reshape(B, H * n, 2 * w, D)

    i = torch.arange(w, device=q.device)[:, None] + w
    j = torch.arange(2 * w, device=q.device)[None]
    seen = (i - j >= 0) & (i - j < w)
    there = (torch.arange(n, device=q.device)[:, None, None] > 0) | (j >= w)  # the first block has none before it
    mask = (seen & there).repeat(H, 1, 1)[None].expand(B, H * n, w, 2 * w)
    return F.scaled_dot_product_attention(q.reshape(B, H * n, w, D), pairs(k), pairs(v), attn_mask=mask).reshape(
        B, H, T, D
    )


class Layer(nn.Module):
    """One transformer layer of either tower; names are Mistral's."""

    def __init__(self, dim, n_heads, n_kv_heads, head_dim, hidden_dim, window, encoder, n_layers):
        super().__init__()
        self.h, self.kv, self.d, self.window = n_heads, n_kv_heads, head_dim, window
        self.attention_norm, self.ffn_norm = Norm(dim), Norm(dim)
        lin = nn.Linear
        self.attention = nn.ModuleDict(
            dict(
                wq=lin(dim, n_heads * head_dim, bias=encoder),
                wk=lin(dim, n_kv_heads * head_dim, bias=False),
                wv=lin(dim, n_kv_heads * head_dim, bias=encoder),
                wo=lin(n_heads * head_dim, dim, bias=encoder),
            )
        )
        self.feed_forward = nn.ModuleDict(
            dict(
                w1=lin(dim, hidden_dim, bias=False),
                w2=lin(hidden_dim, dim, bias=encoder),
                w3=lin(dim, hidden_dim, bias=False),
            )
        )
        if not encoder:
            self.ada_rms_norm_t_cond = nn.ModuleDict({"0": lin(dim, ADA, bias=False), "2": lin(ADA, dim, bias=False)})
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=m.in_features**-0.5 * 0.8)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        for m in (self.attention["wo"], self.feed_forward["w2"]):
            m.weight.data.mul_((2 * n_layers) ** -0.5)
        if not encoder:
            self.ada_rms_norm_t_cond["2"].weight.data.mul_(0.1)

    def forward(self, x, cs, t=None, cache=None):
        """t: embedding of the delay (decoder). cache: [K, V] so far, for one position at a time."""
        B, T, _ = x.shape
        a, y = self.attention, self.attention_norm(x)
        q = rotate(a["wq"](y).view(B, T, self.h, self.d).transpose(1, 2), cs)
        k = rotate(a["wk"](y).view(B, T, self.kv, self.d).transpose(1, 2), cs)
        v = a["wv"](y).view(B, T, self.kv, self.d).transpose(1, 2)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2)[:, :, -self.window :], torch.cat([cache[1], v], 2)[:, :, -self.window :]
            cache[0], cache[1] = k, v
        if self.h != self.kv:
            k, v = k.repeat_interleave(self.h // self.kv, 1), v.repeat_interleave(self.h // self.kv, 1)
        o = window_attention(q, k, v, self.window) if cache is None else F.scaled_dot_product_attention(q, k, v)
        x = x + a["wo"](o.transpose(1, 2).reshape(B, T, -1))
        y = self.ffn_norm(x)
        if t is not None:
            ada = self.ada_rms_norm_t_cond
            y = y * (1 + ada["2"](F.gelu(ada["0"](t))))[:, None].to(y.dtype)
        f = self.feed_forward
        return x + f["w2"](F.silu(f["w1"](y)) * f["w3"](y))


class Model(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        e, d = ENC, DEC
        self.vocab = vocab
        self.conv0, self.conv1 = nn.Conv1d(128, e["dim"], 3), nn.Conv1d(e["dim"], e["dim"], 3, stride=2)
        self.enc = nn.ModuleList(
            Layer(
                e["dim"], e["n_heads"], e["n_heads"], e["head_dim"], e["hidden_dim"], e["window"], True, e["n_layers"]
            )
            for _ in range(e["n_layers"])
        )
        self.enc_norm = Norm(e["dim"])
        self.proj0, self.proj2 = nn.Linear(4 * e["dim"], d["dim"], bias=False), nn.Linear(
            d["dim"], d["dim"], bias=False
        )
        self.emb = nn.Embedding(vocab, d["dim"])
        nn.init.normal_(self.emb.weight, std=0.03)
        self.dec = nn.ModuleList(
            Layer(
                d["dim"],
                d["n_heads"],
                d["n_kv_heads"],
                d["head_dim"],
                d["hidden_dim"],
                d["window"],
                False,
                d["n_layers"],
            )
            for _ in range(d["n_layers"])
        )
        self.norm = Norm(d["dim"])

    def audio(self, mel):
        """[B, 128, 8T] -> rows [B, T, dim]; 4T a multiple of the encoder's window."""
        x = F.gelu(self.conv0(F.pad(mel, (2, 0))))
        x = F.gelu(self.conv1(F.pad(x, (1, 0)))).transpose(1, 2)
        cs = angles(torch.arange(x.shape[1], device=x.device), ENC["head_dim"])
        for l in self.enc:
            x = l(x, cs)
        x = self.enc_norm(x)
        return self.proj2(F.gelu(self.proj0(x.reshape(x.shape[0], -1, 4 * ENC["dim"]))))

    def delay(self, d):
        """[B] delays in tokens -> [B, dim]."""
        inv = torch.exp(-math.log(10000.0) * torch.arange(DEC["dim"] // 2, device=d.device).float() / (DEC["dim"] // 2))
        a = d.float()[:, None] * inv
        return torch.cat([a.cos(), a.sin()], -1)

    def decode(self, rows, tokens, d, cs=None, caches=None):
        """Rows and the tokens before them -> final states [B, T, dim]."""
        x = rows + self.emb(tokens).to(rows.dtype)
        if cs is None:
            cs = angles(torch.arange(x.shape[1], device=x.device), DEC["head_dim"])
        t = self.delay(d)
        for i, l in enumerate(self.dec):
            x = l(x, cs, t, caches[i] if caches else None)
        return self.norm(x)

    def logits(self, h):
        return F.linear(h, self.emb.weight.to(h.dtype))


@torch.no_grad()
def transcribe(model, mel, audio, delay):
    """Greedy, exactly as a stream: [B, N] audio (N a multiple of 1280, no padding) -> token ids [B, steps]."""
    B, dev = audio.shape[0], audio.device
    x = F.pad(audio, (LEFT * 1280, (delay + 11) * 1280))
    T = x.shape[1] // 1280
    step = ENC["window"] // 4  # whole windows: silence after the end, which nothing before it can see
    x = F.pad(x, (0, -T % step * 1280))
    rows = model.audio(mel(x))
    d = torch.full((B,), delay, device=dev)
    caches = [
        [torch.zeros(B, DEC["n_kv_heads"], 0, DEC["head_dim"], device=dev, dtype=rows.dtype) for _ in "kv"]
        for _ in model.dec
    ]
    tok, out = torch.full((B, 1), 1, device=dev), []
    C, S = angles(torch.arange(T, device=dev), DEC["head_dim"])
    for p in range(T):
        h = model.decode(rows[:, p : p + 1], tok, d, (C[p : p + 1], S[p : p + 1]), caches)
        if p < LEFT + delay:
            tok = torch.full_like(tok, 32)
        else:
            tok = model.logits(h).argmax(-1)
            out.append(tok)
    return torch.cat(out, 1)


def names(model):
    """(Mistral's tensor name, parameter) in the order of the file."""
    E = "mm_streams_embeddings.embedding_module."
    W = E + "whisper_encoder."
    yield E + "tok_embeddings.weight", model.emb.weight
    for i, c in enumerate((model.conv0, model.conv1)):
        yield f"{W}conv_layers.{i}.conv.weight", c.weight
        yield f"{W}conv_layers.{i}.conv.bias", c.bias
    for i, l in enumerate(model.enc):
        for n, p in l.named_parameters():
            yield f"{W}transformer.layers.{i}.{n}", p
    yield W + "transformer.norm.weight", model.enc_norm.weight
    yield E + "audio_language_projection.0.weight", model.proj0.weight
    yield E + "audio_language_projection.2.weight", model.proj2.weight
    for i, l in enumerate(model.dec):
        for n, p in l.named_parameters():
            yield f"layers.{i}.{n}", p
    yield "norm.weight", model.norm.weight


def params(vocab):
    e, d = ENC, DEC
    return {
        "dim": d["dim"],
        "n_layers": d["n_layers"],
        "head_dim": d["head_dim"],
        "hidden_dim": d["hidden_dim"],
        "n_heads": d["n_heads"],
        "n_kv_heads": d["n_kv_heads"],
        "use_biases": False,
        "causal": True,
        "rope_theta": THETA,
        "norm_eps": EPS,
        "vocab_size": vocab,
        "model_parallel": 1,
        "tied_embeddings": True,
        "sliding_window": d["window"],
        "model_max_length": 131072,
        "multimodal": {
            "whisper_model_args": {
                "encoder_args": {
                    "audio_encoding_args": {
                        "sampling_rate": 16000,
                        "frame_rate": 12.5,
                        "num_mel_bins": 128,
                        "hop_length": 160,
                        "window_size": 400,
                        "chunk_length_s": None,
                        "global_log_mel_max": 1.5,
                        "transcription_format": "streaming",
                    },
                    "dim": e["dim"],
                    "n_layers": e["n_layers"],
                    "head_dim": e["head_dim"],
                    "hidden_dim": e["hidden_dim"],
                    "n_heads": e["n_heads"],
                    "vocab_size": vocab,
                    "n_kv_heads": e["n_heads"],
                    "use_biases": True,
                    "use_cache": False,
                    "rope_theta": THETA,
                    "causal": True,
                    "norm_eps": EPS,
                    "pos_embed": "rope",
                    "max_source_positions": None,
                    "ffn_type": "swiglu",
                    "norm_type": "rms_norm",
                    "sliding_window": e["window"],
                },
                "downsample_args": {"downsample_factor": 4},
            }
        },
        "ada_rms_norm_t_cond": True,
        "ada_rms_norm_t_cond_dim": ADA,
    }


def tekken(pieces):
    known = {
        0: "<unk>",
        1: "<s>",
        2: "</s>",
        24: "[AUDIO]",
        25: "[BEGIN_AUDIO]",
        32: "[STREAMING_PAD]",
        33: "[STREAMING_WORD]",
    }
    special = [{"rank": i, "token_str": known.get(i, f"<SPECIAL_{i}>"), "is_control": True} for i in range(1000)]

    def text(b):
        try:
            return b.decode()
        except UnicodeDecodeError:
            return None

    vocab = [
        {"rank": i, "token_bytes": base64.b64encode(b).decode(), "token_str": text(b)} for i, b in enumerate(pieces)
    ]
    return {
        "config": {
            "pattern": "[^ ]+| [^ ]+",
            "num_vocab_tokens": len(vocab),
            "default_vocab_size": 1000 + len(vocab),
            "default_num_special_tokens": 1000,
            "version": "v13",
        },
        "vocab": vocab,
        "special_tokens": special,
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "transcription_delay_ms": 480,
            "streaming_look_ahead_ms": 2.5,
            "streaming_look_back_ms": 52.5,
            "streaming_n_left_pad_tokens": LEFT,
            "transcription_format": "streaming",
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
    }


def export(model, pieces, where):
    """params.json, tekken.json and consolidated.safetensors (bf16)."""
    os.makedirs(where, exist_ok=True)
    json.dump(params(model.vocab), open(where + "/params.json", "w"), indent=2)
    json.dump(tekken(pieces), open(where + "/tekken.json", "w"), indent=0)
    header, at, blobs = {"__metadata__": {"format": "pt"}}, 0, []
    for n, p in names(model):
        b = p.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().tobytes()
        header[n] = {"dtype": "BF16", "shape": list(p.shape), "data_offsets": [at, at + len(b)]}
        at += len(b)
        blobs.append(b)
    h = json.dumps(header).encode()
    h += b" " * (-len(h) % 8)
    with open(where + "/consolidated.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h + b"".join(blobs))
    return 8 + len(h) + at


def load(where):
    """(model, pieces) from a folder in Mistral's layout made by export()."""
    vocab = json.load(open(where + "/params.json"))["vocab_size"]
    f = open(where + "/consolidated.safetensors", "rb")
    header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    data = f.read()
    model = Model(vocab)
    for n, p in names(model):
        lo, hi = header[n]["data_offsets"]
        p.data.copy_(torch.frombuffer(bytearray(data[lo:hi]), dtype=torch.bfloat16).view(header[n]["shape"]).float())
    pieces = [base64.b64decode(v["token_bytes"]) for v in json.load(open(where + "/tekken.json"))["vocab"]]
    return model.eval(), pieces

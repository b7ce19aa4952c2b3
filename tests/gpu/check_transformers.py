#!/usr/bin/env python3
"""The program against Hugging Face transformers' Voxtral Realtime, teacher forced; for checkpoints of any size.

usage: check_transformers.py PROGRAM MODEL [--seconds N] [--backend cuda|cpu] [--dtype fp64|fp32] [--device cuda|cpu]

transformers runs greedily over a made clip, an end-of-sequence token fed back like any other. The program, fed its
tokens, must have each of them where its margin exceeds twice the bound (docs/model.md, "Arithmetic"); with fp16 and fp32
K/V. How far margins are apart is printed only: transformers computes rotations and norms in fp32 whatever the dtype.
77: there is no torch, or no transformers with that model.
"""
import argparse
import json
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "golden"), os.path.join(HERE, "..", "..", "tools")]
import cases  # noqa: E402
import check_golden  # noqa: E402
import reference  # noqa: E402

try:
    import torch
    from safetensors.torch import load_file
    from transformers import DynamicCache, VoxtralRealtimeConfig, VoxtralRealtimeForConditionalGeneration
    from transformers.audio_utils import mel_filter_bank
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

DELAY, PAD, BOS, STREAMING_PAD = 6, 32, 1, 32  # tokens: of delay, of silence before the clip; ids
EMBEDDER = r"mm_streams_embeddings\.embedding_module\."
ENCODER = EMBEDDER + r"whisper_encoder\."
NAMES = [  # Mistral's, transformers'
    (r"norm\.", "language_model.norm."),
    (EMBEDDER + r"tok_embeddings\.", "language_model.embed_tokens."),
    (r"layers\.(\d+)\.attention_norm\.", r"language_model.layers.\1.input_layernorm."),
    (r"layers\.(\d+)\.ffn_norm\.", r"language_model.layers.\1.post_attention_layernorm."),
    (r"layers\.(\d+)\.attention\.w([qkvo])\.", r"language_model.layers.\1.self_attn.\2_proj."),
    (r"layers\.(\d+)\.feed_forward\.w1\.", r"language_model.layers.\1.mlp.gate_proj."),
    (r"layers\.(\d+)\.feed_forward\.w2\.", r"language_model.layers.\1.mlp.down_proj."),
    (r"layers\.(\d+)\.feed_forward\.w3\.", r"language_model.layers.\1.mlp.up_proj."),
    (r"layers\.(\d+)\.ada_rms_norm_t_cond\.0\.", r"language_model.layers.\1.ada_rms_norm.linear1."),
    (r"layers\.(\d+)\.ada_rms_norm_t_cond\.2\.", r"language_model.layers.\1.ada_rms_norm.linear2."),
    (ENCODER + r"conv_layers\.0\.conv\.", "audio_tower.embedder.conv1."),
    (ENCODER + r"conv_layers\.1\.conv\.", "audio_tower.embedder.conv2."),
    (ENCODER + r"transformer\.norm\.", "audio_tower.norm."),
    (ENCODER + r"transformer\.layers\.(\d+)\.attention\.w([qkvo])\.", r"audio_tower.layers.\1.self_attn.\2_proj."),
    (ENCODER + r"transformer\.layers\.(\d+)\.attention_norm\.", r"audio_tower.layers.\1.self_attn_layer_norm."),
    (ENCODER + r"transformer\.layers\.(\d+)\.ffn_norm\.", r"audio_tower.layers.\1.final_layer_norm."),
    (ENCODER + r"transformer\.layers\.(\d+)\.feed_forward\.w1\.", r"audio_tower.layers.\1.mlp.gate_proj."),
    (ENCODER + r"transformer\.layers\.(\d+)\.feed_forward\.w2\.", r"audio_tower.layers.\1.mlp.down_proj."),
    (ENCODER + r"transformer\.layers\.(\d+)\.feed_forward\.w3\.", r"audio_tower.layers.\1.mlp.up_proj."),
    (EMBEDDER + r"audio_language_projection\.0\.", "multi_modal_projector.linear_1."),
    (EMBEDDER + r"audio_language_projection\.2\.", "multi_modal_projector.linear_2."),
]


def shared_settings(p, rope_theta):
    return {"hidden_size": p["dim"], "num_hidden_layers": p["n_layers"], "intermediate_size": p["hidden_dim"],
            "num_attention_heads": p["n_heads"], "num_key_value_heads": p["n_kv_heads"], "head_dim": p["head_dim"],
            "sliding_window": p["sliding_window"], "rms_norm_eps": p["norm_eps"], "max_position_embeddings": 1 << 20,
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta}}


def named(name):
    for pattern, to in NAMES:
        new, found = re.subn("^" + pattern, to, name)
        if found:
            return new
    sys.exit(f"no place for {name}")


def halves(weight, head_dim):
    """Rotary pairs lie side by side in Mistral's files, in two halves here."""
    shape = weight.shape
    return weight.view(shape[0] // head_dim, head_dim // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)


def load(folder, dtype, device):
    with open(os.path.join(folder, "params.json")) as f:
        p = json.load(f)
    e = p["multimodal"]["whisper_model_args"]["encoder_args"]
    config = VoxtralRealtimeConfig(
        audio_config={**shared_settings({"n_kv_heads": e["n_heads"], **e}, p["rope_theta"]),
                      "vocab_size": p["vocab_size"]},
        text_config={**shared_settings(p, p["rope_theta"]), "vocab_size": p["vocab_size"]})
    weights = {}
    for name, weight in load_file(os.path.join(folder, "consolidated.safetensors"), device=device).items():
        name = named(name)
        if re.search(r"\.[qk]_proj\.", name):
            weight = halves(weight, (e if "audio_tower" in name else p)["head_dim"])
        weights["model." + name] = weight
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]
    with torch.device("meta"):
        model = VoxtralRealtimeForConditionalGeneration(config)
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.to(dtype).eval()
    for module in model.modules():  # what is computed, not loaded
        if not hasattr(module, "inv_freq") or not module.inv_freq.is_meta:
            continue
        if hasattr(module, "theta"):  # of the delay
            n, theta = module.dim, module.theta
            module.inv_freq = torch.exp(-torch.log(torch.tensor(theta, device=device)) *
                                        torch.arange(n // 2, device=device).float() / (n // 2))
        else:
            n, theta = module.config.head_dim, p["rope_theta"]
            module.inv_freq = module.original_inv_freq = (
                theta ** (-torch.arange(0, n, 2, device=device, dtype=torch.float64) / n)).float()
    return model, config, p


def log_mel(wav, n_mels, log_max, device):
    """[frames, n_mels] of the clip with the silence that goes around it, by transformers' filters."""
    samples, token = reference.read_wav(wav), reference.TOKEN_SAMPLES
    after = -len(samples) % token + (DELAY + 1 + reference.RIGHT_PAD_EXTRA) * token
    padded = torch.from_numpy(cases.np.pad(samples, (PAD * token, after))).to(device)
    window = torch.hann_window(reference.WINDOW, device=device, dtype=padded.dtype)
    power = torch.stft(padded, reference.WINDOW, reference.HOP, window=window, return_complex=True)[..., :-1].abs() ** 2
    filters = torch.from_numpy(mel_filter_bank(1 + reference.WINDOW // 2, n_mels, 0.0, 8000.0, reference.RATE,
                                               norm="slaney", mel_scale="slaney")).to(power)
    log = (filters.T @ power).clamp(min=1e-10).log10()
    return (log.clamp(min=log_max - 8) + 4) / 4


@torch.no_grad()
def transcribe(folder, wav, dtype, device):
    """Tokens and margins."""
    model, config, p = load(folder, dtype, device)
    audio = p["multimodal"]["whisper_model_args"]["encoder_args"]["audio_encoding_args"]
    mel = log_mel(wav, audio["num_mel_bins"], audio["global_log_mel_max"], device)
    core = model.model
    encoded = core.audio_tower(input_features=mel[None].to(dtype), use_cache=False).last_hidden_state
    rows = core.multi_modal_projector(encoded.reshape(1, -1, 4 * encoded.shape[-1]))
    embedding = model.get_input_embeddings()
    delay = (getattr(core, "time_embedding", None) or model.time_embedding)(
        torch.full((1,), DELAY, device=device, dtype=dtype))[None]
    cache, fed, first = DynamicCache(config=config.text_config), [BOS] + [STREAMING_PAD] * (PAD + DELAY), 0
    tokens, margins = [], []
    while first < rows.shape[1]:
        x = rows[:, first:first + len(fed)] + embedding(torch.tensor([fed], device=device))
        out = core.language_model(inputs_embeds=x, past_key_values=cache, use_cache=True, t_cond=delay)
        best = torch.topk(model.lm_head(out.last_hidden_state[0, -1]), 2)
        first, fed = first + len(fed), [int(best.indices[0])]
        tokens.append(fed[0])
        margins.append(float(best.values[0] - best.values[1]))
    return {"tokens": tokens, "margins": margins}


def check(a, kv, answer, wav, force):
    bound, n = cases.BOUNDS[kv], len(answer["tokens"])
    found, difference = check_golden.run(os.path.abspath(a.program), [
        "--model", a.model, "--backend", a.backend, "--kv", kv, "--format", "tokens", "--force", force, wav])
    if difference is None and len(found[0]) != n:
        difference = f"{len(found[0])} steps, not {n}"
    sure = [step for step in range(n) if answer["margins"][step] > 2 * bound]
    if difference is None:
        wrong = [step for step in sure if found[0][step] != answer["tokens"][step]]
        difference = f"another token in {len(wrong)} steps, first {wrong[0]}" if wrong else None
    if difference is not None:
        print(f"FAIL transformers {kv}: {difference}")
        return False
    apart = max(abs(own - margin) for own, margin in zip(found[1], answer["margins"]))
    other = sum(own != token for own, token in zip(found[0], answer["tokens"]))
    print(f"ok   transformers {kv}: {n} steps, {len(sure)} of them with a margin above {2 * bound:g}, each its token; "
          f"{other} others differ; margins at most {apart:.1e} apart")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=("fp64", "fp32"), default="fp64")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    a = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder:
        wav, force = os.path.join(folder, "clip.wav"), os.path.join(folder, "force")
        cases.CLIPS["clip"] = lambda: cases.signal(a.seconds, 1)
        cases.write_clip("clip", wav)
        answer = transcribe(a.model, wav, {"fp64": torch.float64, "fp32": torch.float32}[a.dtype], a.device)
        torch.cuda.empty_cache()
        with open(force, "w") as f:
            f.writelines(f"{token}\n" for token in answer["tokens"])
        passed = sum(check(a, kv, answer, wav, force) for kv in cases.BOUNDS)
    print(f"{passed} passed, {len(cases.BOUNDS) - passed} failed, 0 skipped")
    return 0 if passed == len(cases.BOUNDS) else 1


if __name__ == "__main__":
    sys.exit(main())

/* Synthesis with flite, with the end time of every word: a small shared library that synth.py calls.
 *
 * flite's callbacks report tokens when audio is streamed out, not when a word ends, so the times are read from the
 * finished utterance instead: a token's last word's last segment carries its `end` in seconds, pauses left out.
 */
#include "flite.h"
#include <string.h>

cst_voice *register_cmu_us_slt(const char *), *register_cmu_us_rms(const char *), *register_cmu_us_awb(const char *),
    *register_cmu_us_kal(const char *);

static cst_voice *voice[4];

/* 0 when every voice is there. */
int say_init(void)
{
    flite_init();
    voice[0] = register_cmu_us_slt(0);
    voice[1] = register_cmu_us_rms(0);
    voice[2] = register_cmu_us_awb(0);
    voice[3] = register_cmu_us_kal(0);
    return !(voice[0] && voice[1] && voice[2] && voice[3]);
}

/* Speak `text`. `pitch` is the mean in Hz, `spread` its deviation (0: the voice's own). Writes at most `max` samples to
 * `pcm`, the words' end times in seconds to `ends`, their number to `words` and the sample rate to `rate`. Returns the
 * samples there are. */
int say(int v, const char *text, float stretch, float pitch, float spread, short *pcm, int max, float *ends,
        int maxwords, int *words, int *rate)
{
    cst_voice *vox = voice[v];
    feat_set_float(vox->features, "duration_stretch", stretch);
    if (pitch > 0) feat_set_float(vox->features, "int_f0_target_mean", pitch);
    if (spread > 0) feat_set_float(vox->features, "int_f0_target_stddev", spread);
    cst_utterance *u = flite_synth_text(text, vox);
    if (!u) return -1;
    const cst_wave *w = utt_wave(u);
    int n = cst_wave_num_samples(w), k = 0;
    *rate = cst_wave_sample_rate(w);
    if (n > max) n = max;
    memcpy(pcm, cst_wave_samples(w), (size_t)n * sizeof *pcm);
    for (cst_item *t = relation_head(utt_relation(u, "Token")); t && k < maxwords; t = item_next(t)) {
        const cst_item *last = item_last_daughter(t);
        ends[k++] = last ? ffeature_float(last, "R:SylStructure.daughtern.daughtern.R:Segment.end") : -1.0f;
    }
    *words = k;
    delete_utterance(u);
    return n;
}

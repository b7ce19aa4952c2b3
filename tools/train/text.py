#!/usr/bin/env python3
"""Make the sentences and the word pieces that the demo model is trained on.

usage: text.py ROOT OUT      ROOT: where setup.sh unpacked the Debian packages
                            OUT gets train.txt, heldout.txt, words.txt, bpe.json

Sources: fortunes, wordnet-base (glosses and examples), dict-jargon, bible-kjv. Kept are sentences of 3 to 24 words
without digits, all of whose words are common (in Debian's wamerican-small list, and at least 3 times in the sources). A
line is SOURCE<TAB>SENTENCE, lower case, with commas and full stops kept for the voices' sake: they are never a target.
One sentence in 40, picked by a hash of its words, is held out for evaluation.
"""

import collections, glob, gzip, hashlib, json, os, re, subprocess, sys
from text_weights import WEIGHTS

MERGES = 1700


def entries(root):
    """Yield (source, paragraph)."""
    for path in sorted(glob.glob(root + "/usr/share/games/fortunes/*.u8")):
        path = path[:-3]
        if os.path.basename(path) in ("ascii-art", "translate-me", "perl"):
            continue
        for e in open(path, encoding="utf-8", errors="ignore").read().split("\n%"):
            e = re.split(r"\n\s+--", e)[0]
            yield "fortunes", e.strip("%\n")
    for part in ("noun", "verb", "adj", "adv"):
        for line in open(f"{root}/usr/share/wordnet/data.{part}"):
            if "|" not in line:
                continue
            gloss = line.split("|", 1)[1]
            for quoted in re.findall(r'"([^"]+)"', gloss):
                yield "examples", quoted
            yield "glosses", re.sub(r'"[^"]*"', "", gloss).split(";")[0]
    for e in re.split(r"\n\s*\n", gzip.open(root + "/usr/share/dictd/jargon.dict.dz", "rt", errors="ignore").read()):
        yield "jargon", re.sub(r"[{}]", "", e)
    lib = root + "/usr/lib"
    text = subprocess.run(
        [root + "/usr/bin/bible", "-p", lib, "-f", "ge1:1-re22:21"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    ).stdout
    for line in text.splitlines():
        m = re.match(r"\S+\d+:\d+ (.*)", line)
        if m:
            yield "bible", m.group(1)


def sentences(paragraph):
    """Cut a paragraph into lower-case sentences; those with digits or odd signs are dropped."""
    p = re.sub(r"\s+", " ", paragraph.replace("\u2019", "'"))
    for s in re.split(r"(?<=[.!?;:])\s+|\s--\s|\.\.\.+", p):
        s = s.strip()
        short = r"[A-Z]{2}|\w\.\w|\b(?:[MD]rs?|Ms|St|etc|e\.g|i\.e|vs|esp)\b\.?"
        if re.search(r"[^A-Za-z ,.;:?!'\"()-]", s) or re.search(short, s):
            continue
        out = []
        for w in re.sub(r"-+", " ", s.lower()).split():
            end = "," if w[-1] in ",;:" else "." if w[-1] in ".?!" else ""
            w = w.strip(",.;:?!\"()'")
            if w:
                out.append(w + end)
        if out:
            yield out


def learn_pieces(counts, merges):
    """Byte-pair merges over words with their leading space."""
    words = [(list(" " + w), c) for w, c in counts.items()]
    pairs, where, out = collections.Counter(), collections.defaultdict(set), []
    for i, (s, c) in enumerate(words):
        for q in zip(s, s[1:]):
            pairs[q] += c
            where[q].add(i)
    while len(out) < merges:
        (a, b), n = max(pairs.items(), key=lambda t: (t[1], t[0]))
        if n <= 0:
            break
        out.append((a, b))
        for i in list(where[a, b]):
            s, c = words[i]
            for q in zip(s, s[1:]):
                pairs[q] -= c
            k, o = 0, []
            while k < len(s):
                if k + 1 < len(s) and s[k] == a and s[k + 1] == b:
                    o.append(a + b)
                    k += 2
                else:
                    o.append(s[k])
                    k += 1
            words[i] = (o, c)
            for q in zip(o, o[1:]):
                pairs[q] += c
                where[q].add(i)
        del pairs[a, b]
    return out


def main():
    root, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    known = {w.strip().lower() for w in open(root + "/usr/share/dict/american-english-small")}
    known = {w for w in known if w.isascii() and (len(w) > 1 or w in "aio")}
    found, seen, counts = [], set(), collections.Counter()
    for source, p in entries(root):
        for s in sentences(p):
            words = [w.strip(",.") for w in s]
            key = " ".join(words)
            if 3 <= len(words) <= 24 and key not in seen and all(w in known for w in words):
                seen.add(key)
                found.append((source, s, key))
                counts.update(words)
    kept = [f for f in found if all(counts[w.strip(",.")] >= 3 for w in f[1])]
    size = collections.Counter(f[0] for f in kept)
    n = collections.Counter()
    weighted = collections.Counter()
    with open(out + "/train.txt", "w") as tr, open(out + "/heldout.txt", "w") as he:
        for source, s, key in kept:
            held = int(hashlib.sha1(key.encode()).hexdigest(), 16) % 40 == 0
            (he if held else tr).write(f"{source}\t{' '.join(s)}\n")
            n[source, held] += 1
            for w in key.split():
                weighted[w] += 1e6 * WEIGHTS[source] / size[source]
    for w in weighted:  # training also uses words in random order, so each word counts a little
        weighted[w] += 4
    with open(out + "/words.txt", "w") as f:
        f.write("\n".join(sorted(weighted)) + "\n")
    json.dump(learn_pieces(weighted, MERGES), open(out + "/bpe.json", "w"))
    print("words", len(weighted), "sentences", {k[0] + " held out" * k[1]: v for k, v in sorted(n.items())})


main()

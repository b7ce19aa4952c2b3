"""Rules for the text of the tree. Argument: the source folder.

All text files: UTF-8, no tab, no space at a line's end, one newline at the end of the file. C and the prose of Markdown: at
most 120 columns. Code: at most 600 lines, unless the first 30 lines say why ("This file is long"). Functions, members and
lambdas of C and CUDA: at most 60 lines, unless the comment above says why ("This function is long"). Plain words: none
of WORDS."""
import os, re, sys

TEXT = (".c", ".h", ".py", ".sh", ".md", ".build", ".txt", ".json", ".cu", ".cuh", ".cpp")
C = (".c", ".h", ".cu", ".cuh", ".cpp")
CODE = C + (".py", ".sh", ".build")
SKIP_FOLDERS = {".git", "__pycache__", "corpus", "data"}
LINES, COLUMNS, FUNCTION = 600, 120, 60
UNIT = "(?:pass|block|step|column|run|line|call|session|frame|launch|token|row|layer|thread|process|head|group|tile|kernel|warp|share)"
WORDS = [  # what a text must not say, and what to say instead; CONTRIBUTING.md, "Language"
    (r"\b(?:who(?:m)?ever|somebody)\b", "name the subject"),
    (r"\b(?:is|are) no news\b|\bnobody's news\b", "say what happens"),
    (r"\bin place of\b", '"instead of"'),
    (r"\bfor want of\b|\blest\b", "because there is no, so that not"),
    (rf"\b(?:an?|one|\d+) (?!(?:of|in|at|on|to|or|and|with|as|than|from|by|is|has|for|when|if|give|that|after|before|although|while|until|into|s|ms)\b)[a-z][\w-]* an? {UNIT}s?\b", '"one X per Y"'),
]


def files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if d not in SKIP_FOLDERS and not d.startswith("build") and d != ".carry"]
        for name in names:
            path = os.path.join(folder, name)
            # models hold weights, and tests/golden references: data, whatever their names end in
            relative = os.path.relpath(path, root)
            if relative.startswith(("models/", "tests/golden/")) and name.endswith((".json", ".txt")):
                continue
            if name.endswith(TEXT) or name in (".editorconfig", ".clang-format", ".gitignore", "LICENSE"):
                yield path, relative


def check_lines(relative, text):
    lines = text.split("\n")
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield f"{relative}: not one newline at its end"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield f"{relative}:{number}: tab"
        if line != line.rstrip():
            yield f"{relative}:{number}: blank at the line's end"
        if relative.endswith(C) and len(line) > COLUMNS:
            yield f"{relative}:{number}: {len(line)} columns"
        for words, better in WORDS:
            found = re.search(words, line, re.I)
            if found and not relative.endswith("check_text.py"):
                yield f'{relative}:{number}: "{found.group()}": {better}'
    if relative.endswith(CODE) and len(lines) - 1 > LINES and "This file is long" not in "\n".join(lines[:30]):
        yield f"{relative}: {len(lines) - 1} lines, and its top does not say why"


def check_prose(relative, text):
    """Lines of Markdown that are too long, but for tables, fenced blocks, and lines that cannot be broken."""
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        fenced ^= line.startswith("```")
        if len(line) > COLUMNS and not fenced and not line.startswith("|") and " " in line.strip()[:COLUMNS]:
            yield f"{relative}:{number}: {len(line)} columns"


def check_functions(relative, text):
    """A body is from a line that is only a brace, or the end of a lambda's head, to the brace that closes at its indent."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        body, is_lambda = re.match(r"( *)\{$", line), re.match(r"( *)\S.*\[[&=\w, ]*\]\(.*\{$", line)
        indent = (body or is_lambda).group(1) if body or is_lambda else None
        end = next((n for n in range(number + 1, len(lines)) if indent is not None and lines[n].startswith(indent + "}")), None)
        if end is None or (body and lines[end] != indent + "}"):  # which ends a table
            continue
        length, above = end - number + 1, "\n".join(lines[max(0, number - 12):number])
        if length > FUNCTION and "This function is long" not in above:
            yield f"{relative}:{number + 1}: function of {length} lines"


def check(relative, data):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        return [f"{relative}: not UTF-8: {e}"]
    if not text:
        return []
    found = list(check_lines(relative, text))
    if relative.endswith(C):
        found += check_functions(relative, text)
    if relative.endswith(".md"):
        found += check_prose(relative, text)
    return found


def selftest():
    body = b"    g();\n" * 60
    long_function = b"int f(void)\n{\n" + body + b"}\n"
    member = b"struct s {\n    int f()\n    {\n" + body + b"    }\n};\n"
    a_lambda = b"    const auto f = [&](int i) {\n" + body + b"    };\n"
    for data, n in [(b"a\tb\n", 1), (b"a \n", 1), (b"a", 1), (b"a\n\n", 1), (b"\xff\n", 1), (b"x" * 121 + b"\n", 1),
                    (b"x\n" * 601, 1), (b"/* This file is long: a table. */\n" + b"x\n" * 601, 0), (long_function, 1),
                    (member, 1), (a_lambda, 1), (b"int a[] =\n{\n" + body + b"};\n", 0),
                    (b"/* One row a block. */\n", 1), (b"/* Whoever calls. */\n", 1), (b"/* One row per block. */\n", 0),
                    (b"int a;\n", 0)]:
        assert len(check("a.c", data)) == n, (data[:40], check("a.c", data))
    for data, n in [(b"word " * 25 + b"\n", 2), (b"x" * 130 + b"\n", 0), (b"| " + b"word " * 30 + b"|\n", 0),
                    (b"```\n" + b"y" * 125 + b" z\n```\n", 0)]:
        assert len(check("a.md", data)) == n, (data[:40], check("a.md", data))


selftest()
total, bad = 0, []
for path, name in sorted(files(sys.argv[1])):
    total += 1
    with open(path, "rb") as f:
        bad += check(name, f.read())
print(*bad, sep="\n")
print(f"{total} files, {len(bad)} faults")
sys.exit(1 if bad or not total else 0)

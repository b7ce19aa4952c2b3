"""The man page says of the options what --help does, which comes from the table that parses them: the same names, the
same values, in the same order, under the same headings. Arguments: source folder, program."""
import os, re, subprocess, sys


def of_help(text):
    """[(name, value or heading)]"""
    found = []
    for line in text.split("\n"):
        option = re.match(r"  --([a-z0-9-]+)(?: (\S+))?(?: |$)", line)
        if option:
            found.append((option.group(1), option.group(2)))
        elif re.fullmatch(r"[A-Z][a-z]+", line):
            found.append(("#", line))
    return found


def of_page(text):
    options = re.search(r"^# OPTIONS\n(.*?)^# ", text, re.M | re.S).group(1)
    found = []
    for line in options.split("\n"):
        option = re.fullmatch(r"\*--([a-z0-9-]+)\*(?: _(\S+)_)?", line)
        if option:
            found.append((option.group(1), option.group(2)))
        elif line.startswith("## "):
            found.append(("#", line[3:]))
    return found


def selftest():
    text = "usage\n\nOutput\n  --a-b one|two       help, --c\n  --c                 more\n\nWithout --d: x\n"
    assert of_help(text) == [("#", "Output"), ("a-b", "one|two"), ("c", None)], of_help(text)
    page = "# OPTIONS\n\n## Output\n\n*--a-b* _one|two_\n\tx\n\n*--c*\n\tsee *--d*\n\n# EXIT\n*--e*\n"
    assert of_page(page) == of_help(text), of_page(page)


def main(root, program):
    selftest()
    with open(os.path.join(root, "docs", "surtitle.1.scd"), encoding="utf-8") as f:
        page = of_page(f.read())
    options = of_help(subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout)
    bad = 0
    for which, missing in [("docs/surtitle.1.scd", [o for o in options if o not in page]),
                           ("--help", [o for o in page if o not in options])]:
        for name, value in missing:
            bad += 1
            print(f"{which} has no {'heading ' + value if name == '#' else '--' + name + (' ' + value if value else '')}")
    if not bad and page != options:
        bad = 1
        print("the options stand in another order in docs/surtitle.1.scd")
    print(f"{len(options)} options and headings, {bad} differ")
    return 1 if bad or not options else 0


sys.exit(main(*sys.argv[1:3]))

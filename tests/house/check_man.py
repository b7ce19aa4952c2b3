"""The options in the man page are those of --help-all, which comes from the table that parses them: the same names, letters
and values, in the same order, under the same headings. --help is the beginning of that list. Arguments: source folder, program."""
import os, re, subprocess, sys


def of_help(text):
    """[(name, letter, value)], and ("#", None, heading)"""
    found = []
    for line in text.split("\n"):
        option = re.match(r"  (?:-(\w), |    )--([a-z0-9-]+)(?: (\S+))?(?: |$)", line)
        if option:
            found.append((option.group(2), option.group(1), option.group(3)))
        elif re.fullmatch(r"[A-Z][a-z]+( [a-z]+)*", line):
            found.append(("#", None, line))
    return found


def of_page(text):
    options = re.search(r"^# OPTIONS\n(.*?)^# ", text, re.M | re.S).group(1)
    found = []
    for line in options.split("\n"):
        option = re.fullmatch(r"(?:\*-(\w)\*, )?\*--([a-z0-9-]+)\*(?: _(\S+)_)?", line)
        if option:
            found.append((option.group(2), option.group(1), option.group(3)))
        elif line.startswith("## "):
            found.append(("#", None, line[3:]))
    return found


def selftest():
    text = "usage\n\nOut and in\n  -a, --a-b one|two       help, --c\n      --c                 more\n\nWithout --d: x\n"
    assert of_help(text) == [("#", None, "Out and in"), ("a-b", "a", "one|two"), ("c", None, None)], of_help(text)
    page = "# OPTIONS\n\n## Out and in\n\n*-a*, *--a-b* _one|two_\n\tx\n\n*--c*\n\tsee *--d*\n\n# EXIT\n*--e*\n"
    assert of_page(page) == of_help(text), of_page(page)


def main(root, program):
    selftest()
    with open(os.path.join(root, "docs", "surtitle.1.scd"), encoding="utf-8") as f:
        page = of_page(f.read())
    options, daily = (of_help(subprocess.run([program, option], capture_output=True, text=True, check=True).stdout)
                      for option in ["--help-all", "--help"])
    bad = 0
    for which, missing in [("docs/surtitle.1.scd", [o for o in options if o not in page]),
                           ("--help-all", [o for o in page if o not in options])]:
        for name, letter, value in missing:
            bad += 1
            print(f"{which} has no {name} {letter or ''} {value or ''}")
    if not bad and page != options:
        bad += 1
        print("the options stand in another order in docs/surtitle.1.scd")
    if not daily or options[:len(daily)] != daily:
        bad += 1
        print("--help is not the beginning of --help-all")
    print(f"{len(options)} options and headings, {bad} differ")
    return 1 if bad or not options else 0


sys.exit(main(*sys.argv[1:3]))

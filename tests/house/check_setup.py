"""tools/setup.sh with fakes of apt-get, dpkg-query and id that record their calls: no package is installed that would remove
another, --program installs only what the program needs, and nothing is done when nothing is missing.
Arguments: the source folder."""
import os, shutil, subprocess, sys, tempfile

SCRIPT = os.path.join(sys.argv[1], "tools", "setup.sh")
FAKES = {
    "dpkg-query": 'grep -qx "$4" "$BOX/installed" && echo installed',
    "id": 'echo "$WHO"',
    # a simulated install of a package that conflicts with a desktop's removes that; installs fail until there are lists
    "apt-get": """
case " $* " in
*' -s '*' pulseaudio '*) [ -e "$BOX/gnome" ] && echo 'Remv gnome-core [1:43]' ;;
*' -s '*) ;;
*)  echo "$@" >>"$BOX/calls"
    case $1 in
    update) touch "$BOX/lists" ;;
    install) [ -e "$BOX/lists" ] || exit 100 ;;
    esac ;;
esac""",
    "pipewire-pulse": "exit 1",
}
TEST_PACKAGES = {"libcmocka-dev", "python3-numpy", "tmux", "htop", "vim-tiny", "less", "scdoc", "libopenblas-dev",
                 "pulseaudio-utils", "libasound2-plugins"}


def run(*args, installed=(), gnome=False, pipewire=False, lists=True, root=True):
    """Status, packages installed, calls of apt-get other than simulations, standard error."""
    with tempfile.TemporaryDirectory() as box:
        os.mkdir(os.path.join(box, "bin"))
        for name, text in FAKES.items():
            if name != "pipewire-pulse" or pipewire:
                path = os.path.join(box, "bin", name)
                with open(path, "w") as f:
                    f.write("#!/bin/sh\n" + text + "\n")
                os.chmod(path, 0o755)
        for name in ["grep", "touch"]:
            os.symlink(shutil.which(name), os.path.join(box, "bin", name))
        for name, there in [("gnome", gnome), ("lists", lists), ("calls", True), ("installed", True)]:
            if there:
                with open(os.path.join(box, name), "w") as f:
                    f.write("".join(p + "\n" for p in installed) if name == "installed" else "")
        env = dict(os.environ, BOX=box, WHO="0" if root else "1000", PATH=os.path.join(box, "bin"))
        r = subprocess.run([SCRIPT, *args], env=env, capture_output=True, text=True, timeout=60)
        with open(os.path.join(box, "calls")) as f:
            calls = f.read().splitlines()
    line = calls[-1] if calls else next((l for l in r.stderr.splitlines() if l.startswith("  sudo")), "")
    assert not line or "--no-remove" in line.split(), line
    return r.returncode, {w for w in line.split() if not w.startswith("-")}, calls, r.stderr


def main():
    status, everything, calls, _ = run()
    assert status == 0 and len(calls) == 1 and TEST_PACKAGES | {"gcc", "pulseaudio"} <= everything, (status, calls)

    status, program, calls, _ = run("--program")
    assert status == 0 and {"gcc", "meson", "libsndfile1-dev"} <= program < everything, (status, calls)
    assert not program & (TEST_PACKAGES | {"pulseaudio"}), program

    status, some, calls, errors = run(gnome=True)
    assert status == 0 and len(calls) == 1 and some == everything - {"pulseaudio"}, (status, calls)
    assert "left out" in errors.splitlines()[-1] and errors.split()[-1] == "pulseaudio", errors
    status, _, calls, errors = run(gnome=True, installed=some)
    assert status == 0 and not calls and errors.count("\n") == 1 and "left out" in errors, (status, calls, errors)

    status, some, calls, errors = run(pipewire=True)
    assert status == 0 and some == everything - {"pulseaudio"} and "left out" not in errors, (status, calls, errors)

    status, _, calls, errors = run(installed=everything)
    assert status == 0 and not calls and not errors, (status, calls, errors)

    status, some, calls, _ = run(lists=False)
    assert status == 0 and [c.split()[0] for c in calls] == ["install", "update", "install"] and some == everything, calls

    status, some, calls, errors = run(root=False, gnome=True)
    assert status == 1 and not calls and some >= everything - {"pulseaudio"} and "pulseaudio" not in some, errors

    assert run("--nonsense")[0] == 2
    check = os.path.join(sys.argv[1], "tools", "check.sh")
    r = subprocess.run([check, "--full", "more"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 2 and r.stderr == "usage: tools/check.sh [--full]\n" and not r.stdout, r
    print("setup.sh: nothing is removed, and --program installs what the program needs alone")


main()

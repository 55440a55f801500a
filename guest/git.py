"""Git's own work on objects: the first process of a sandbox without network, sockets and credentials.

It runs `git` on a repository of its own in /tmp, with a configuration of its own. Of an agent's repository it reads
objects alone, as an alternate: no configuration, hook, index, reference or attribute of it is ever read. What goes in
comes by standard input, what comes out by standard output; standard error is for people. Standard library only, Python
3.8 or newer, started with `-I -S`.

    git.py PROGRAM pack FOLDER COMMIT   the pack of a commit and all before it, from a folder of objects
    git.py PROGRAM check                a header line and a pack: checks it, answers with a line, and the pack to send
    git.py PROGRAM unpack               a header line and a pack: makes a work tree of it

Exit codes: 0; 1 if git refused.
"""
import json
import os
import shutil
import subprocess
import sys

REPOSITORY = "/tmp/repository.git"
HEADER_BYTES_MAX = 256 * 1024
DETAIL_CHARACTERS_MAX = 600

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LC_ALL": "C",
    "GIT_DIR": REPOSITORY,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",
}
FIXED = (
    "protocol.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.commitGraph=false",
    "core.multiPackIndex=false",
    "core.logAllRefUpdates=false",
    "transfer.fsckObjects=true",
    "gc.auto=0",
    "pack.threads=1",
)


class Refused(Exception):
    """Git would not; the text says why."""


def git(program, *arguments, **options):
    """Runs git on the repository in /tmp; its standard error is the text of a refusal."""
    fixed = [part for setting in FIXED for part in ("-c", setting)]
    run = subprocess.run(
        [program, *fixed, *arguments], env=ENVIRONMENT, cwd="/tmp", stderr=subprocess.PIPE, check=False, **options
    )
    if run.returncode != 0:
        raise Refused(run.stderr.decode("utf-8", "replace").strip()[-DETAIL_CHARACTERS_MAX:] or "git gave no reason")
    return run.stdout


def make_repository(bare, alternate=None):
    """A repository with nothing in it."""
    for folder in ("objects/info", "objects/pack", "refs/heads"):
        os.makedirs(os.path.join(REPOSITORY, folder))
    write("HEAD", "ref: refs/heads/none\n")
    write("config", f"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = {str(bare).lower()}\n")
    if alternate is not None:
        write("objects/info/alternates", alternate + "\n")


def write(name, text):
    """Writes a file of the repository."""
    path = os.path.join(REPOSITORY, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def header():
    """The first line of standard input; what follows it is left for git."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) > HEADER_BYTES_MAX:
            raise Refused("the header is not whole")
        line += byte
    return json.loads(line.decode("utf-8"))


def take(program, commit, most):
    """Takes a pack from standard input: every object sound, every link whole."""
    git(program, "index-pack", "--strict", "--stdin", f"--max-input-size={most}", stdin=0, stdout=subprocess.DEVNULL)
    kind = git(program, "cat-file", "-t", commit, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).decode().strip()
    if kind != "commit":
        raise Refused(f"{commit} is a {kind}")
    git(program, "rev-list", "--objects", "--quiet", commit, "--", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def holds(program, commit):
    """Whether a commit came with the pack."""
    try:
        git(program, "cat-file", "-e", commit + "^{commit}", stdin=subprocess.DEVNULL)
    except Refused:
        return False
    return True


def pack(program, folder, commit):
    """Writes the pack of a commit and all before it."""
    make_repository(True, folder)
    git(program, "pack-objects", "--revs", "--stdout", "-q", input=commit.encode() + b"\n", stdout=None)


def check(program):
    """Checks a pack, and writes what of it the far side lacks."""
    asked = header()
    commit, former = asked["commit"], asked["former"]
    make_repository(True)
    take(program, commit, asked["most"])
    if former is not None:
        try:
            git(program, "merge-base", "--is-ancestor", former, commit, stdin=subprocess.DEVNULL)
        except Refused:
            raise Refused("not_fast_forward") from None
    known = [have for have in asked["haves"] if holds(program, have)]
    answer({"ok": True})
    wanted = "".join([commit + "\n", *("^" + have + "\n" for have in known)])
    git(program, "pack-objects", "--revs", "--stdout", "-q", input=wanted.encode(), stdout=None)


def unpack(program):
    """Makes a work tree of a commit, with a repository of its own."""
    asked = header()
    path, branch, commit = asked["path"], asked["branch"], asked["commit"]
    make_repository(False)
    take(program, commit, asked["most"])
    new = not os.path.lexists(path)
    os.makedirs(path, exist_ok=True)
    if os.listdir(path):
        raise Refused("there is something at that path")
    try:
        if branch is None:
            write("HEAD", commit + "\n")
        else:
            write("refs/heads/" + branch, commit + "\n")
            write("HEAD", f"ref: refs/heads/{branch}\n")
        work_tree = ["--work-tree", path]
        git(program, *work_tree, "reset", "-q", "--hard", commit, "--", stdin=subprocess.DEVNULL)
        listed = git(program, *work_tree, "ls-files", "-z", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        shutil.copytree(REPOSITORY, os.path.join(path, ".git"))
    except (Refused, OSError, shutil.Error):
        clear(path, new)
        raise
    answer({"ok": True, "files": listed.count(b"\0")})


def clear(path, new):
    """Takes away what a failed unpacking left."""
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    if new:
        os.rmdir(path)


def answer(value):
    """One line to the daemon."""
    os.write(1, json.dumps(value).encode() + b"\n")


def main():
    """Does what the arguments say."""
    program, mode, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    try:
        {"pack": pack, "check": check, "unpack": unpack}[mode](program, *arguments)
    except (Refused, OSError, shutil.Error) as error:
        sys.stderr.write(str(error)[-DETAIL_CHARACTERS_MAX:])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

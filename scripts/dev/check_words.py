"""Fails on words and phrases that docs/project/style.md replaces, in all text that users read.

    check_words.py [FILE…]     all files by default

It reads Markdown outside code, comments and strings of sql/parts, string literals of the extension and of the command pgclip,
and the doc comments of the command, which are its --help.
"""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Patterns ignore case, and a space matches any white space. The value is the replacement.
WORDS = {
    r"anew": "again, or a verb with re-",
    r"unawares": "by accident; silently",
    r"whoever|whomever|who may": "anyone who can; a role with",
    r"mend(s|ed|ing)?": "fix",
    r"for want of": "for lack of; because … is missing",
    r"in company": "in a batch",
    r"at hand|within reach": "available",
    r"(?<!so\s)(?<!and\s)forth": "forward",
    r"sees? to it": "ensure",
    r"cut short": "truncated",
    r"turned upright": "rotated according to its EXIF orientation",
    r"likewise|(?<!-)alike": "also; in the same way",
    r"as ever": "as before",
    r"earns? an? (warning|error|notice)": "raises",
    r"ends? the (server|process|backend)|ends a process": "crashes; kills",
    r"(is|are|was|were|be|been|being) refused": "is rejected; fails with",
    r"(view|server|command|function|file|error|hint|column|setting|log|it|pg_clip|pgclip|PostgreSQL|Postgres) (says|tells|said|told)":
        "shows, returns, reports, logs, raises",
    r"remembers|forgets": "caches; clears",
    r"likeness|nearness": "similarity; distance",
    r"beside": "next to; in addition to",
    r"pictures?": "image, or diagram",
    r"folders?": "directory",
    r"he|his|him": "they, their",
    r"licences?": "license",
    r"colour(s|ed)?|behaviours?|favours?|favourites?|catalogues?|cancelled|grey": "American spelling",
    r"(normal|optim|token|initial|organ|recogn|quant|summar|minim|maxim)is(e[sd]?|ing|ation)": "American spelling: -ize",
}

# A sentence that is no question begins with its subject, not with one of these.
NO_SUBJECT = re.compile(r"(?:(?<=[.!?] )|(?<=[.!?]\n)|^)(?:What|Who|Whoever|Whomever)\b[^.!?\n|]*(?:\n[^.!?\n|]+)*\.(?=\s|$)", re.M)

# Words that are correct in some files: files, words, and the reason.
ALLOWED = [
    ("docs/project/style.md", r".*", "the page lists the words"),
    ("SECURITY.md", r"is refused", "the operating system refuses memory"),
    ("docs/help/troubleshooting.md", r"cut short", "the page lists DETAIL of errors"),
]

PATTERN = re.compile("|".join(rf"(?P<w{i}>\b(?:{words.replace(' ', chr(92) + 's+')})\b)" for i, words in enumerate(WORDS)), re.I)
INSTEAD = list(WORDS.values())


def blank(text: str, pattern: str, flags: int = 0) -> str:
    """Replaces matches by spaces, so that the numbers of lines and columns stay."""
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=flags)


def keep(text: str, pattern: str) -> str:
    """Replaces everything outside the groups of all matches by spaces."""
    kept, end = [], 0
    for match in re.finditer(pattern, text, re.S):
        for group in range(1, len(match.groups()) + 1):
            if match.group(group) is not None:
                kept += [blank(text[end:match.start(group)], r"[^\n]+"), match.group(group)]
                end = match.end(group)
    return "".join([*kept, blank(text[end:], r"[^\n]+")])


def prose(path: str, text: str) -> str:
    """Returns the text of a file that users read, at its lines and columns."""
    if path.endswith(".md"):
        text = blank(text, r"^ *(```+|~~~+).*?^ *\1 *$", re.M | re.S)
        text = blank(text, r"<!--.*?-->", re.S)
        text = blank(text, r"`[^`]+`|<[^<>\n]+>|(?<=\])\([^()\n]*\)|https?://\S+")
        # Quoted examples are texts to search by.
        return blank(text, r'"[^"\n]*"|“[^”]*”')
    if path.endswith(".sql"):
        return keep(text, r"--([^\n]*)|('(?:[^']|'')*')")
    help_texts = r"///([^\n]*)|" if path.endswith("/cli.rs") else ""
    # The first alternatives skip comments and characters.
    text = keep(text, help_texts + r"""//[^\n]*|'(?:[^'\\]|\\.)'|"((?:[^"\\]|\\.)*)\"""")
    return text.replace("\\n", "  ").replace('\\"', "  ")


def files() -> list[str]:
    wanted = ["*.md", "sql/parts/*.sql", "src/*.rs", "src/**/*.rs", "crates/pgclip/src/*.rs", "crates/pgclip/src/**/*.rs"]
    listed = subprocess.run(["git", "ls-files", "--", *wanted], cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(set(listed.stdout.split("\n")) - {""})


def is_allowed(path: str, found: str) -> bool:
    return any(fnmatch(path, place) and re.fullmatch(pattern, found) for place, pattern, _ in ALLOWED)


def main() -> int:
    failures = 0
    for path in sys.argv[1:] or files():
        text = prose(path, (ROOT / path).read_text())
        found = [(match.start(), match.group(), INSTEAD[int(match.lastgroup[1:])]) for match in PATTERN.finditer(text)]
        if path.endswith(".md"):
            body = blank(text, r"^#.*$", re.M)
            found += [(match.start(), " ".join(match.group().split()[:5]) + " …", "the subject first") for match in NO_SUBJECT.finditer(body)]
        for start, words, instead in sorted(found):
            words = " ".join(words.split())
            if not is_allowed(path, words):
                failures += 1
                print(f"{path}:{text.count(chr(10), 0, start) + 1}: \"{words}\": write {instead}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every Python block of the README and of docs/ runs, or a comment above it names what it needs.

The blocks of a page run in their order, in one namespace and in an empty folder that holds two small data sets. A block
below `<!-- needs files: ... -->`, or another comment that starts with "needs", is compiled only.
"""

import re
from pathlib import Path

import pytest
from dataset_trees import write_own_folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^(<!-- needs [^\n]+ -->)\n+)?^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def blocks(text):
    """`(whether it runs, its code below as many empty lines as precede it on its page)` of every Python block."""
    return [(not match[1], "\n" * text.count("\n", 0, match.start(2)) + match[2]) for match in BLOCK.finditer(text)]


def run_blocks(page):
    namespace = {"__name__": "__main__"}
    for runs, code in blocks(page.read_text(encoding="utf-8")):
        compiled = compile(code, page.name, "exec")
        if runs:
            exec(compiled, namespace)
    return namespace


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p.read_text("utf-8"))], ids=lambda page: page.stem)
def test_python_blocks_run_in_order(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_folder(tmp_path / "my_data", 9)
    write_own_folder(tmp_path / "harbour", 3)
    namespace = run_blocks(page)
    if page.stem == "README":
        assert namespace["report"].summary.num_images == 3
        assert "alma" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_python_block_and_no_comment_is_missed(page):
    text = page.read_text(encoding="utf-8")
    found = blocks(text)
    assert len(found) == len(re.findall(r"^\s*```\s*(?:python|py)\b", text, flags=re.MULTILINE))
    assert sum(not runs for runs, _ in found) == text.count("<!-- needs")


def test_a_block_runs_unless_a_comment_says_what_it_needs(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n<!-- needs files: b -->\n```python\na = b\n```\n```python\na += 1\n```\n")
    assert run_blocks(page)["a"] == 2


def test_a_failing_line_is_named_by_its_number_on_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("One line.\n\n```python\na = 1\nb = a.c\n```\n")
    with pytest.raises(AttributeError) as failed:
        run_blocks(page)
    assert failed.traceback[-1].lineno + 1 == 5


def test_every_page_is_in_the_navigation_and_every_picture_exists():
    """The generator checks links between pages, but neither of these."""
    listed = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:])
    for page in PAGES:
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), (page.name, picture)


def test_messages_of_the_troubleshooting_page_exist():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "segrobust").rglob("*.py"))
    text = re.sub(r"\{[^{}]*\}", "...", re.sub(r'"\s+f?"', "", sources))
    rows = re.findall(
        r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 15
    assert [message for message in rows if message not in text] == []

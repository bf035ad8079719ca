"""`open_run(OUT).show()` at the end of a notebook's cell: the report within a page that it cannot touch."""

from pathlib import Path

import pytest
from browsers import Opened
from outputs import finished_run

from pipeline import open_run


@pytest.mark.parametrize("taken_for", ["utf-8", "windows-1252"])
def test_the_report_works_within_the_page_of_a_notebook(taken_for: str, opened: Opened, tmp_path: Path) -> None:
    shown = open_run(str(finished_run(tmp_path, cog=False))).show(700)
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<meta charset={taken_for}><p>Out[1]:</p>{shown._repr_html_()}", encoding="utf-8")
    opened.listen()
    opened.page.goto(notebook.as_uri())
    report = opened.page.frame_locator("iframe[title='t2s report']")
    report.locator("html[data-ready=yes]").wait_for(state="attached", timeout=60_000)
    assert report.locator("#map canvas").count()
    assert "2 scenes" in report.locator("h1").inner_text()
    assert (
        report.locator("body").evaluate("() => { try { return top.document.title } catch { return 'apart' } }")
        == "apart"
    )
    assert opened.page.locator("iframe").bounding_box()["height"] == 700
    assert (opened.complaints, opened.requests) == ([], [])

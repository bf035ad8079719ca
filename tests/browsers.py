"""A page in a browser, and what it complains of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOTS = Path(__file__).resolve().parents[1] / "build/screenshots"


@dataclass
class Opened:
    """A page, and all that a user should never see happen."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, exceptions, dialogs."""
    requests: list[str] = field(default_factory=list)
    """Everything that was asked for beside the file itself."""

    def listen(self) -> None:
        """From here on to what the page complains of."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._note)

    def open(self, path: Path) -> Any:
        """A report, once its script is done."""
        self.listen()
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        return self.page

    def shoot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _note(self, request: Any) -> None:
        if request.url.split(":")[0] not in {"data", "blob"} and request.resource_type != "document":
            self.requests.append(request.url)

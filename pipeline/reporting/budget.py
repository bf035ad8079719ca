"""How much of everything a report holds, so that it can be mailed whatever the region's size."""

from dataclasses import dataclass, replace

MAX_PAGE_BYTES = 15_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits; where one is met the report says so."""

    scenes: int = 60
    """That are drawn with their picture and their tiles: those with failures first, then those with most features."""
    picture_bytes: int = 3_500_000
    """Of all quick-looks together."""
    features: int = 4_000
    """That the map and the table show, evenly sampled."""
    vertices: int = 200_000
    """Of all outlines; beyond, they are simplified."""
    tiles: int = 10_000
    """Rectangles of the coverage, neighbours of one status being one."""
    crops: int = 180
    """Pictures in the gallery."""
    text_chars: int = 1_500_000
    """Of all reasoning together; beyond, each is cut."""
    prompts: int = 8_000
    """Boxes, each with its points."""
    batches: int = 200
    """Objects of tile results that are opened for the prompts."""
    listed: int = 200
    """Rows of a table."""
    decode_mpx: float = 64.0
    """Megapixels that are decoded for pictures of scenes without overviews."""

    def smaller(self) -> "Budget":
        """About half of it, for a page that came out too large."""
        return replace(
            self,
            picture_bytes=self.picture_bytes // 2,
            features=self.features // 2,
            vertices=self.vertices // 2,
            tiles=self.tiles // 2,
            crops=self.crops // 2,
            text_chars=self.text_chars // 2,
            prompts=self.prompts // 2,
            listed=max(20, self.listed // 2),
        )

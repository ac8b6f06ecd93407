"""Which data another program means: an example, a text, an uploaded file or a dataset on the Hub, and its columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradio.utils import get_upload_folder

from tabs.data_source import columns_of, source_from
from tabs.parameters import told
from tabs.studio import Studio
from training.data import ChatData, example_names, last, source_of


@dataclass(frozen=True)
class Asked:
    """What a call says of its data; exactly one of the first four."""

    example: str = told("The name of an example: pirate, json or shop.", "")
    text: str = told("The text of a JSONL file, instead.", "")
    file: dict | None = told("An uploaded file, instead: JSONL, JSON, CSV, TSV, Parquet, Arrow, xlsx, gz or zip.", None)
    hub: str = told("A dataset on the Hub, instead: OWNER/NAME or its page's address.", "")
    subset: str = told("Of a dataset on the Hub: its configuration. Empty: its only or default one.", "")
    split: str = told("Of a dataset on the Hub: its split. Empty: the one for training.", "")
    prompt_column: str = told("The column that holds the prompts, where the columns' names don't say it.", "")
    answer_column: str = told("The column that holds the answers; both or neither.", "")

    def data(self, studio: Studio) -> ChatData:
        """Read as the Train tab reads it; ValueError where there is none, or where it is no example and nothing that
        was uploaded.
        """
        said = {"example": self.example, "text": self.text.strip(), "file": self.file, "hub": self.hub.strip()}
        given = [name for name, value in said.items() if value]
        if len(given) != 1:
            raise ValueError(f"Which data? Given: {', '.join(given) or 'nothing'}. Give one of {', '.join(said)}.")
        if (self.subset or self.split) and not self.hub:
            raise ValueError("A subset and a split are those of a dataset on the Hub. Give its id as hub.")
        columns = columns_of(self.prompt_column, self.answer_column) if self.prompt_column or self.answer_column \
            else None
        if self.example:
            if self.example not in example_names():
                raise ValueError(f"There is no example named {self.example!r}. Give one of "
                                 f"{', '.join(example_names())}.")
            return last(studio.shelf.read(source_of(self.example, columns=columns)))
        place = str(_uploaded(studio, self.file)) if self.file else None
        hub = [self.hub, self.subset, self.split]
        return last(studio.shelf.read(source_from(studio, place, self.text, hub, columns=columns)))


def _uploaded(studio: Studio, file: dict) -> Path:
    """The file's place; a path on this machine that nobody uploaded is refused."""
    path = Path(str(file.get("path", ""))).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise ValueError("Only a file that was uploaded can be read here. Upload it first (gradio_client: "
                         "handle_file), or send its text.")
    studio.limits.check_upload(path)
    return path

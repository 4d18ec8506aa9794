"""What a policy masks."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import AtLeastOne, Detector, Filled, Many, bad, cut, read_by
from soothsayer_mcp.policy.redact import Part, Redact, masks_once, read_place


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise bad("value", "what stands instead is a text without control characters")
    return text


def _finds_something(pattern: str) -> None:
    if LAB.pattern(pattern)(""):
        raise ValueError("it fits an empty text, so it would be found everywhere")


class MaskDocument(Document):
    """What is masked in the record."""

    at: Annotated[list[Filled], Many, AtLeastOne] = ["**"]
    find: Annotated[list[Detector], Many, AtLeastOne] = []
    matches: Annotated[list[Annotated[str, read_by(_finds_something, "regex")]], Many, AtLeastOne] = []
    with_: Annotated[str, AfterValidator(_printable)] = Field(default="", alias="with")

    @property
    def part(self) -> Part:
        """Where it is masked."""
        return Part.TRACE

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if not self.find and not self.matches and "**" in self.at:
            raise bad("value", "say what is masked: `find`, `matches`, or `at` with a path")
        for place in self.at:
            if place != "**":
                try:
                    read_place(place, self.part)
                except ValueError as error:
                    raise bad("value", str(error)) from error
        if self.with_ and not masks_once(
            Redact(part=Part.RESULT, find=tuple(self.find), matches=tuple(self.matches), mark=self.with_), LAB.scan
        ):
            raise bad("value", f"what stands instead, {cut(self.with_)}, would be masked itself")
        return self


class RedactDocument(MaskDocument):
    """What is masked in what a model reads, or in the record."""

    in_: Literal["result", "trace"] = Field(alias="in")

    @property
    def part(self) -> Part:
        """Where it is masked."""
        return Part(self.in_)

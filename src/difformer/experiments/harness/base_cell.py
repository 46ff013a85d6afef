"""What cells of every kind have in common: names that are known, a score, a name of their own."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from difformer.data.protocols import protocol
from difformer.errors import one_of
from difformer.experiments.harness.answers import Score


class BaseCell(BaseModel):
    """A cell names data, a protocol and a metric; ``TABLES`` holds what a field may name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    TABLES: ClassVar[Mapping[str, Mapping[str, Any]]]

    data: str
    protocol: str
    metric: str
    graph: bool = True

    @field_validator("*")
    @classmethod
    def _known(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if name == "protocol":
            protocol(value)
        elif name in cls.TABLES:
            one_of(value, cls.TABLES[name], name)
        return value

    @property
    def score(self) -> Score:
        """What judges."""
        found: Score = self.TABLES["metric"][self.metric]
        return found

    @property
    def name(self) -> str:
        """For files and tables: letters, digits and hyphens."""
        parts = [self.data.replace("_", "-"), self.protocol]
        return "-".join([*parts, *([] if self.graph else ["no-graph"])])

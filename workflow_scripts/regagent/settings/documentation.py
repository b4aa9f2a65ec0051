"""Documentation made from the models: the tables of config/README.md, and the schema that editors read."""

import json
from fractions import Fraction
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from regagent.settings.base import Model, models
from regagent.settings.run import Settings
from regagent.settings.variants import Variant


def table(name: str) -> str:
    """Return the Markdown table of the keys that a model has beyond those it inherits.

    ``name`` is the name of the model, or ``learner`` for the key by which a variant's model is chosen.
    """
    if name == "learner":
        learners = get_args(get_args(Variant)[0])
        meanings = [_meaning(model.model_fields["learner"]) for model in learners]
        rows = [("learner", "required", " ".join(meanings))]
    else:
        model = next(model for model in models() if model.__name__ == name)
        own = {key: field for key, field in model.model_fields.items() if key in model.__annotations__}
        own.pop("learner", None)
        rows = [(key, _default(field), _meaning(field)) for key, field in own.items()]
    lines = [f"| `{key}` | {default} | {meaning} |\n" for key, default, meaning in rows]
    return "".join(["| key | default | meaning |\n", "|---|---|---|\n", *lines])


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``config.yaml`` and of every file that is laid over it."""
    result = Settings.model_json_schema(schema_generator=_Overlay)
    for model in (result, *result["$defs"].values()):
        for part in (model, *model["properties"].values()):
            if "description" in part:
                part["description"] = _one_line(part["description"])
    return {"$schema": _Overlay.schema_dialect, **result}


class _Overlay(GenerateJsonSchema):
    """The schema of a part of the configuration: no key is required, and a variant may be partial or null."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return False

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        # Without its key ``learner`` a partial variant may fit several models.
        return {"anyOf": [*map(self.generate_inner, schema["choices"].values()), {"type": "null"}]}

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        # PyYAML reads 300_000 as a number; editors read YAML 1.2, in which it is text.
        number = super().int_schema(schema)
        return number | {"type": ["integer", "string"], "pattern": "^[0-9]+(_[0-9]+)+$"}


def _meaning(field: FieldInfo) -> str:
    return _one_line(field.description or "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, Model):
        given = field.default.model_dump(exclude_unset=True)
        return f"`{_yaml(given)}`" if given else "see below"
    text = _yaml(field.default)
    return text if text[0].isdigit() else f"`{text}`"


def _yaml(value: Any) -> str:
    """Return a value as YAML, except for fractions such as 79/99 and the spaces in large numbers."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_yaml, value)) + "]"
        case str():
            return value
        case bool() | None:
            return json.dumps(value)
        case int():
            return f"{value:,}".replace(",", " ") if value >= 10_000 else str(value)
    short = f"{value:g}"
    return short if float(short) == value else str(Fraction(value).limit_denominator(1000))

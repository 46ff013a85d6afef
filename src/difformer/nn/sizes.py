"""Widths and numbers of layers that fit together."""

from difformer.errors import ConfigError, whole_number


def check_sizes(
    in_channels: int,
    hidden_channels: int,
    out_channels: int,
    num_layers: int,
    input_map: bool,
    output_map: bool,
) -> None:
    """Widths are positive and agree where a map is left out."""
    for name, value in (
        ("in_channels", in_channels),
        ("hidden_channels", hidden_channels),
        ("out_channels", out_channels),
    ):
        whole_number(value, 1, name)
    whole_number(num_layers, 0, "num_layers")
    for made, name, outer in (
        (input_map, "in_channels", in_channels),
        (output_map, "out_channels", out_channels),
    ):
        if not made and outer != hidden_channels:
            raise ConfigError(
                f"{name} must equal hidden_channels = {hidden_channels} where that map is left "
                f"out, found {outer}."
            )

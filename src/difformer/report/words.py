"""Numbers as people read them."""

import math
from collections.abc import Sequence

MISSING = "–"
SPACE = "\u00a0"  # a number stays on one line with its unit
MINUS = "\u2212"


def count(number: int) -> str:
    """Group the digits.

    Example:
        >>> count(12345)
        '12,345'
    """
    return f"{number:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its noun.

    Example:
        >>> counted(1, "row"), counted(2, "row"), counted(0, "class", "classes")
        ('1\xa0row', '2\xa0rows', '0\xa0classes')
    """
    return f"{count(number)}{SPACE}{one if number == 1 else many or one + 's'}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a fraction in percent.

    Example:
        >>> percent(0.9421), percent(None)
        ('94.2\xa0%', '–')
    """
    return MISSING if share is None else f"{points(share, digits)}{SPACE}%"


def points(share: float | None, digits: int = 1, sign: bool = False) -> str:
    """Return a fraction in percent without the unit, for a column that names it."""
    if share is None:
        return MISSING
    value = round(100 * share, digits) + 0.0  # no negative zero
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def figure(value: float | None, digits: int = 4) -> str:
    """Return any number with a few significant digits.

    Example:
        >>> figure(0.00001234), figure(1234567.0), figure(0.5), figure(None)
        ('1.234 × 10⁻⁵', '1.235 × 10⁶', '0.5', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa.replace("-", MINUS)
    return mantissa if not exponent else f"{mantissa} × 10{_raised(int(exponent))}"


def _raised(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def duration(seconds: float) -> str:
    """Return a time in one or two units.

    Example:
        >>> duration(3.21), duration(250), duration(7320)
        ('3.2\xa0s', '4\xa0min 10\xa0s', '2\xa0h 2\xa0min')
    """
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def listed(names: Sequence[str], most: int = 12) -> str:
    """Join names with commas; of many, say how many are left out.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {count(len(names) - most)} more"


def shortened(text: str, most: int = 28) -> str:
    """Cut a long text in the middle, where names differ least.

    Example:
        >>> shortened("abcdefghij", most=7)
        'abc…hij'
    """
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, for independent rows.

    Formula:
        (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n), z = 1.96

    Example:
        >>> low, high = wilson(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.596, 0.982)
    """
    z, share = 1.959964, right / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    return (middle - half) / scale, (middle + half) / scale

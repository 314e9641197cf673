"""Countries by ISO 3166-1's codes and names, and by the names that people use."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, Final

import pycountry

#: Names in use that are neither ISO's nor among its common ones. Each belongs to one country alone.
_IN_USE: Final[Mapping[str, tuple[str, ...]]] = {
    "AE": ("UAE", "U.A.E.", "Emirates"),
    "BA": ("Bosnia", "Bosnia Herzegovina"),
    "BN": ("Brunei",),
    "CD": ("DR Congo", "DRC", "Congo-Kinshasa", "Congo (Kinshasa)", "Zaire", "Congo, Democratic Republic of the"),
    "CG": ("Congo-Brazzaville", "Congo (Brazzaville)", "Republic of the Congo", "Congo Republic"),
    "CI": ("Ivory Coast",),
    "CN": ("PRC", "Mainland China", "P.R. China"),
    "CV": ("Cape Verde",),
    "CZ": ("Czech Republic",),
    "FK": ("Falkland Islands", "Falklands"),
    "FM": ("Micronesia",),
    "GB": (
        *("UK", "U.K.", "Great Britain", "Britain", "England", "Scotland", "Wales", "Northern Ireland"),
        "United Kingdom of Great Britain",
    ),
    "GR": ("Hellas", "EL"),
    "HK": ("Hong Kong SAR", "Hong Kong SAR China", "Hong Kong, China"),
    "IE": ("Republic of Ireland", "Eire"),
    "KP": ("Korea, North", "DPRK", "Korea DPR", "D.P.R. Korea"),
    "KR": ("Korea", "Korea, South", "ROK", "S. Korea"),
    "LA": ("Lao PDR",),
    "MK": ("Macedonia", "FYROM", "Republic of Macedonia"),
    "MM": ("Burma",),
    "MO": ("Macau", "Macau SAR", "Macao SAR", "Macao SAR China", "Macau SAR China"),
    "NL": ("Holland", "The Netherlands"),
    "PS": ("Palestine", "Palestinian Territory", "Palestinian Territories"),
    "RU": ("Russia",),
    "SA": ("KSA", "Saudi"),
    "ST": ("Sao Tome",),
    "SZ": ("Swaziland",),
    "TL": ("East Timor",),
    "TR": ("Turkey",),
    "TT": ("Trinidad",),
    "TW": ("Taiwan, China", "Chinese Taipei"),
    "US": ("U.S.", "U.S.A.", "United States of America", "America"),
    "VA": ("Vatican", "Vatican City", "Vatican City State", "Holy See"),
    "VG": ("British Virgin Islands", "BVI"),
    "VI": ("US Virgin Islands", "U.S. Virgin Islands"),
}
#: A name beyond this many characters is none.
_MAX_NAME = 64
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_BRACKETED = re.compile(r"\s*\(.*?\)")
_IN_FULL: Final = {"st": "saint", "rep": "republic", "dem": "democratic", "fed": "federated"}
#: Words that a name has in one list and lacks in another.
_WITHOUT: Final = frozenset({"the", "of", "and"})


@lru_cache(maxsize=1024)
def country_of(name: str) -> str | None:
    """Return the alpha-2 code of a code (two letters, three, or three digits) or name; None where it is neither."""
    name = name.strip()
    if not name or len(name) > _MAX_NAME:
        return None
    head, _, tail = name.partition(",")
    # Lists that are sorted turn names round: "Egypt, Arab Rep.".
    return _codes().get(name.upper()) or _names().get(_folded(name)) or _names().get(_folded(f"{tail} {head}"))


@cache
def _codes() -> Mapping[str, str]:
    return {
        code: country.alpha_2
        for country in pycountry.countries
        for code in (country.alpha_2, country.alpha_3, country.numeric, country.flag)
    }


@cache
def _names() -> Mapping[str, str]:
    """The country of each folded name; one that fits two countries is left out."""
    owners: dict[str, set[str]] = {}
    for country in pycountry.countries:
        for name in _names_of(country):
            owners.setdefault(_folded(name), set()).add(country.alpha_2)
    found = {name: next(iter(codes)) for name, codes in owners.items() if len(codes) == 1}
    # ISO's own name comes before what another's was cut down to: Congo and Dominica are countries.
    found |= {_folded(country.name): country.alpha_2 for country in pycountry.countries}
    return found | {_folded(name): code for code, names in _IN_USE.items() for name in names}


def _names_of(country: Any) -> Iterator[str]:
    for name in (country.name, getattr(country, "official_name", ""), getattr(country, "common_name", "")):
        if name:
            yield name
            yield _BRACKETED.sub("", name)
            # ISO turns names round: "Korea, Republic of".
            head, comma, tail = name.partition(", ")
            if comma:
                yield f"{tail} {head}"
                yield head


def _folded(name: str) -> str:
    """A name without case, accents, punctuation and small words."""
    parts = unicodedata.normalize("NFKD", name.replace("&", " and ")).casefold().replace("ı", "i")
    letters = "".join(each for each in parts if unicodedata.category(each) != "Mn").replace(".", "")
    words = _NOT_WORD.sub(" ", letters.replace("'", "").replace("’", "")).split()
    return " ".join(_IN_FULL.get(word, word) for word in words if word not in _WITHOUT)

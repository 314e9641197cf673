"""Card schemes and ways of funding, by what providers call them.

A name is read as a row of known words, of which one must be a scheme's; those that say nothing of the scheme (credit,
prepaid, card, gold, …) are passed over. Words may be run together: ``mcdebit`` is ``mc`` and ``debit``.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

from cardtoken.contract import Brand, Funding

Kind = TypeVar("Kind", Brand, Funding)

#: Names that are nothing but a scheme's: beside them words that are not listed do no harm.
_DISTINCT: Final[Mapping[Brand, str]] = {
    Brand.VISA: "visa vpay فيزا виза",
    Brand.MASTERCARD: "mastercard ماستركارد ماستركرد мастеркард",
    Brand.AMEX: "amex americanexpress اميكس امريكاناكسبريس امريكاناكسبرس",
    Brand.DINERS: "dinersclub داينرزكلوب",
    Brand.JCB: "jcb جيسيبي",
    Brand.UNIONPAY: "unionpay chinaunionpay 银联 中国银联 銀聯 يونيونباي",
    Brand.MAESTRO: "maestro مايسترو",
    Brand.VERVE: "verve",
    Brand.MEEZA: "meeza ميزة",
    Brand.MADA: "mada مدى",
    Brand.EFTPOS_AU: "eftposau eftposaustralia",
    Brand.RUPAY: "rupay",
}
#: Names that are words of their own, or stand for another scheme elsewhere: they count beside known words alone.
_AMBIGUOUS: Final[Mapping[Brand, str]] = {
    Brand.MASTERCARD: "master mc ماستر",
    Brand.DINERS: "diners داينرز",
    Brand.DISCOVER: "discover ديسكفر",
    Brand.UNIONPAY: "cup upi",
    Brand.EFTPOS_AU: "eftpos",
    Brand.ELO: "elo",
    Brand.TROY: "troy",
}
#: What names say beside the scheme: funding, tier, purpose and form of a card, in the languages of its markets.
_NOISE: Final = """
    card cards carte cartao tarjeta kart karti the by brand scheme network payment payments
    international intl global worldwide domestic local inc ltd
    credit debit prepaid pre paid charge deferred credito debito kredi banka
    classic standard basic gold silver platinum titanium black signature infinite world elite premium preferred
    rewards reward plus electron virtual digital physical contactless chip mobile online
    business corporate commercial purchasing fleet government consumer personal gift travel cash salary payroll
    بطاقة بطاقات ائتمان ائتمانية خصم مباشر مدين مدفوعة مسبقا مسبقة الدفع رقمية افتراضية بنكية ذهبية كلاسيك
    卡 信用卡 借记卡
"""
#: Beside these the name of a scheme is not the card's.
_CONTRARY: Final = frozenset({"no", "non", "not", "or", "other", "ex", "without", "than", "like", "except"})
_FUNDING: Final[Mapping[Funding, str]] = {
    Funding.CREDIT: "credit",
    Funding.DEBIT: "debit",
    Funding.PREPAID: "prepaid",
}

#: A name beyond this many characters is prose.
_MAX_NAME = 64


@lru_cache(maxsize=1024)
def brand_of(name: str) -> Brand:
    """Return the scheme; ``unknown`` where the name holds none, or two, as that of a card with two schemes does."""
    words = _words(name)
    if readings := _readings("".join(words), _NAMES, _BESIDE_A_BRAND):
        return _only(readings) or Brand.UNKNOWN
    if not _CONTRARY.isdisjoint(words):
        return Brand.UNKNOWN
    # Neighbouring words may be one name: "master card", "american express".
    runs = ("".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1))
    found = {_only(_readings(run, _DISTINCT_NAMES, _BESIDE_A_BRAND)) for run in runs} - {None}
    return found.pop() or Brand.UNKNOWN if len(found) == 1 else Brand.UNKNOWN


@lru_cache(maxsize=256)
def funding_of(name: str) -> Funding:
    """Return the one way of funding that the name says; ``unknown`` where it says none, two or something else."""
    return _only(_readings("".join(_words(name)), _FUNDING_NAMES, _BESIDE_A_FUNDING)) or Funding.UNKNOWN


def _words(name: str) -> list[str]:
    """The words of a name without case, accents, symbols and the forms that a letter takes."""
    if len(name) > _MAX_NAME:
        return []
    # Normalised, a trademark sign would become the letters TM.
    plain = "".join(" " if unicodedata.category(each)[0] in "PSZ" else each for each in name)
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", plain).casefold())
    letters = "".join(each for each in parts if unicodedata.category(each) not in {"Mn", "Cf"})
    return letters.translate(_VARIANTS).split()


#: Arabic's final letters are often typed as their plain twins, its tatweel is ornament; Turkish has an i without a dot.
_VARIANTS: Final = str.maketrans({"ى": "ي", "ة": "ه", "ـ": None, "ı": "i"})


def _readings(letters: str, names: Mapping[str, Kind], beside: frozenset[str]) -> set[frozenset[Kind]]:
    """Each way to read the letters as a row of known words: the kinds that it names. None where there is no way."""
    reached: list[set[frozenset[Kind]]] = [set() for _ in range(len(letters) + 1)]
    reached[0].add(frozenset())
    for start, read in enumerate(reached[:-1]):
        for end in range(start + 1, len(letters) + 1) if read else ():
            word = letters[start:end]
            if word in beside:
                reached[end] |= read
            if word in names:
                reached[end] |= {each | {names[word]} for each in read}
    return reached[-1]


def _only(readings: Iterable[frozenset[Kind]]) -> Kind | None:
    """The one kind that is named, in all readings that name any."""
    named = {each for each in readings if each}
    return next(iter(next(iter(named)))) if len(named) == 1 and len(next(iter(named))) == 1 else None


def _by_name(*tables: Mapping[Kind, str]) -> Mapping[str, Kind]:
    return {"".join(_words(name)): kind for table in tables for kind, names in table.items() for name in names.split()}


_DISTINCT_NAMES: Final = _by_name(_DISTINCT)
_NAMES: Final = _by_name(_DISTINCT, _AMBIGUOUS)
_FUNDING_NAMES: Final = _by_name(_FUNDING)
_BESIDE_A_BRAND: Final = frozenset("".join(_words(word)) for word in _NOISE.split())
_BESIDE_A_FUNDING: Final = (_BESIDE_A_BRAND | _NAMES.keys()) - _FUNDING_NAMES.keys()

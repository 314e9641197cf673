"""Card schemes and ways of funding, by the names that providers have for them."""

from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardtoken.contract import Brand, Funding
from tasks.providers.brands import brand_of, funding_of

#: A name that each scheme is called by, as it is written on a card.
NAMES = {
    Brand.VISA: "Visa",
    Brand.MASTERCARD: "MasterCard",
    Brand.AMEX: "American Express",
    Brand.DINERS: "Diners Club",
    Brand.DISCOVER: "Discover",
    Brand.JCB: "JCB",
    Brand.UNIONPAY: "UnionPay",
    Brand.MAESTRO: "Maestro",
    Brand.VERVE: "Verve",
    Brand.MEEZA: "Meeza",
    Brand.MADA: "mada",
    Brand.EFTPOS_AU: "eftpos",
    Brand.RUPAY: "RuPay",
    Brand.ELO: "Elo",
    Brand.TROY: "Troy",
}


def test_every_brand_of_the_contract_is_found_under_its_own_name() -> None:
    assert NAMES.keys() == {*Brand} - {Brand.UNKNOWN}
    for brand in Brand:
        assert brand_of(brand.value) is brand


@pytest.mark.parametrize("brand", NAMES)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "{} Credit",
        "{}_DEBIT",
        "{}-Prepaid",
        "Pre-Paid {}",
        "{} CARD",
        "{} Credit Card",
        "{}credit",
        "debit{}",
        "{} Digital",
        "{} (Platinum Business)",
        "{}®",
        "{}\u2122 World Elite",
        "  {}  ",
    ],
)
def test_a_brand_is_known_among_words_that_say_nothing_of_it(brand: Brand, form: str) -> None:
    for name in (NAMES[brand], NAMES[brand].upper(), NAMES[brand].lower(), NAMES[brand].replace(" ", "_")):
        assert brand_of(form.format(name)) is brand


@pytest.mark.parametrize(
    ("word", "brand"),
    [
        ("mcdebit", Brand.MASTERCARD),
        ("MC", Brand.MASTERCARD),
        ("MASTER", Brand.MASTERCARD),
        ("MASTER_CARD", Brand.MASTERCARD),
        ("World Elite Mastercard", Brand.MASTERCARD),
        ("Visa Electron", Brand.VISA),
        ("V PAY", Brand.VISA),
        ("\uff36\uff29\uff33\uff21", Brand.VISA),  # letters of full width
        ("China Union Pay", Brand.UNIONPAY),
        ("UNION-PAY DEBIT", Brand.UNIONPAY),
        ("银联卡", Brand.UNIONPAY),
        ("American Express (AMEX)", Brand.AMEX),  # one scheme by two names
        ("AMEX", Brand.AMEX),
        ("Diners Club International", Brand.DINERS),
        ("eftpos Australia", Brand.EFTPOS_AU),
        ("Elo Crédito", Brand.ELO),
        ("Troy banka kartı", Brand.TROY),
        ("مدى", Brand.MADA),
        ("مدي", Brand.MADA),  # as keyboards without the other letter type it
        ("مَدَى", Brand.MADA),  # with its vowels
        ("مـدى", Brand.MADA),  # stretched
        ("\u200fمدى\u200e", Brand.MADA),  # with marks of direction
        ("بطاقة مدى", Brand.MADA),
        ("ميزة", Brand.MEEZA),
        ("ميزه", Brand.MEEZA),
        ("ميزة رقمية", Brand.MEEZA),
        ("فيزا", Brand.VISA),
        ("ماستركارد", Brand.MASTERCARD),
        ("ماستر كارد ائتمانية", Brand.MASTERCARD),
        ("أمريكان إكسبريس", Brand.AMEX),
        ("مايسترو", Brand.MAESTRO),
        ("Visa Something New", Brand.VISA),  # a name that is nothing else stands among any words
        ("American Express Centurion", Brand.AMEX),
        ("Mastercard (R)", Brand.MASTERCARD),
        ("Interswitch Verve", Brand.VERVE),
    ],
)
def test_a_brand_is_known_by_the_names_in_use(word: str, brand: Brand) -> None:
    assert brand_of(word) is brand


@pytest.mark.parametrize(
    "word",
    [
        "unheard-of",
        "***",
        "Future Pay",
        "credit",  # a funding alone
        "Debit Card",
        "450875",
        "Visa/mada",  # two schemes on one card: neither is the brand
        "Visa Mastercard",
        "VISAMASTERCARD",
        "Visa and new Mastercard",
        "non-Visa",
        "Not Mastercard",
        "Visa or other",
        "Visage",  # other words that begin so
        "Madagascar",
        "Elodie",
        "Masterplan",
        "Master Plan",  # names that are words of their own, among others
        "Discover Bank",
        "Troy Bank",
        "eftpos NZ",  # another scheme of that name
        "Visa" + " and so on" * 10,
    ],
)
def test_a_brand_is_never_invented(word: str) -> None:
    assert brand_of(word) is Brand.UNKNOWN


@given(st.text() | st.text("visamcelo debt-", max_size=64))
@settings(max_examples=150, deadline=None)
def test_any_name_is_a_brand_of_the_contract_and_a_funding(name: str) -> None:
    assert brand_of(name) in {*Brand}
    assert funding_of(name) in {*Funding}


@pytest.mark.parametrize("word", ["prepaid" * 9, "pre paid " * 7, "a b " * 16, "mc" * 32, "card" * 16 + "!"])
def test_no_name_takes_long_to_read(word: str) -> None:
    began = perf_counter()
    brand_of.__wrapped__(word)
    assert perf_counter() - began < 1


@pytest.mark.parametrize(
    ("word", "funding"),
    [
        ("CREDIT", Funding.CREDIT),
        ("Debit Card", Funding.DEBIT),
        ("creditcard", Funding.CREDIT),
        ("pre-paid", Funding.PREPAID),
        ("PREPAID_CARD", Funding.PREPAID),
        ("Visa Debit", Funding.DEBIT),  # where the provider's field of the funding says so
        ("unknown", Funding.UNKNOWN),
        ("charge", Funding.UNKNOWN),
        ("credit/debit", Funding.UNKNOWN),
        ("Visa", Funding.UNKNOWN),
        ("accredited", Funding.UNKNOWN),
        ("", Funding.UNKNOWN),
    ],
)
def test_a_funding_is_the_one_that_is_named(word: str, funding: Funding) -> None:
    assert funding_of(word) is funding

"""Countries by ISO's codes and names, and by the names that people use."""

import pycountry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.providers.countries import _IN_USE, country_of


def test_every_country_is_known_by_its_codes_and_its_names() -> None:
    for country in pycountry.countries:
        for name in (
            country.alpha_2,
            country.alpha_3.lower(),
            country.numeric,
            country.name,
            country.name.upper(),
            getattr(country, "official_name", country.name),
            getattr(country, "common_name", country.name),
        ):
            assert country_of(name) == country.alpha_2, name


def test_no_name_in_use_takes_another_countrys_place() -> None:
    for code, names in _IN_USE.items():
        assert pycountry.countries.get(alpha_2=code)
        for name in names:
            assert country_of(name) == code, name
            try:
                found = pycountry.countries.lookup(name).alpha_2
            except LookupError:
                continue
            assert found == code, name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UK", "GB"),
        ("U.K.", "GB"),
        ("england", "GB"),
        ("Russia", "RU"),
        ("RUSSIAN FEDERATION", "RU"),
        ("Turkey", "TR"),
        ("Turkiye", "TR"),
        ("TÜRKİYE", "TR"),
        ("Korea", "KR"),
        ("South Korea", "KR"),
        ("Korea, South", "KR"),
        ("Republic of Korea", "KR"),
        ("Korea (Republic of)", "KR"),
        ("North Korea", "KP"),
        ("DPRK", "KP"),
        ("Korea, Democratic People's Republic of", "KP"),
        ("Korea, Rep.", "KR"),
        ("Korea, Dem. People's Rep.", "KP"),
        ("Egypt, Arab Rep.", "EG"),
        ("Congo, Dem. Rep.", "CD"),
        ("Congo, Rep.", "CG"),
        ("Bahamas, The", "BS"),
        ("Macau", "MO"),
        ("Macao SAR China", "MO"),
        ("Hong Kong", "HK"),
        ("Taiwan", "TW"),
        ("Iran", "IR"),
        ("Islamic Republic of Iran", "IR"),
        ("Vietnam", "VN"),
        ("Bolivia", "BO"),
        ("Tanzania", "TZ"),
        ("Venezuela", "VE"),
        ("Moldova", "MD"),
        ("Syria", "SY"),
        ("Laos", "LA"),
        ("Brunei", "BN"),
        ("Ivory Coast", "CI"),
        ("Cote d’Ivoire", "CI"),
        ("Czech Republic", "CZ"),
        ("Swaziland", "SZ"),
        ("Cape Verde", "CV"),
        ("Burma", "MM"),
        ("USA", "US"),
        ("U.S.", "US"),
        ("The United States of America", "US"),
        ("UAE", "AE"),
        ("Congo", "CG"),
        ("DR Congo", "CD"),
        ("Dominica", "DM"),
        ("Dominican Republic", "DO"),
        ("St. Kitts & Nevis", "KN"),
        ("Curacao", "CW"),
        ("The Gambia", "GM"),
        (" new  zealand ", "NZ"),
        ("036", "AU"),
        ("AUS", "AU"),
        ("🇪🇬", "EG"),
    ],
)
def test_a_country_is_known_by_the_names_in_use(name: str, code: str) -> None:
    assert country_of(name) == code


@pytest.mark.parametrize(
    "name",
    ["Atlantis", "", " ", "XX", "EU", "36", "0036", "Republic of", "Virgin Islands", "The", "***", "A" * 65, "Great"],
)
def test_a_country_is_never_invented(name: str) -> None:
    assert country_of(name) is None


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_name_is_a_country_or_none(name: str) -> None:
    found = country_of(name)
    assert found is None or pycountry.countries.get(alpha_2=found)

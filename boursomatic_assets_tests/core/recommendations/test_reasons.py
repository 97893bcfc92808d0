"""What justifications say, by hand and by property.

In expected texts `-` stands for the minus sign, `~` for a narrow no-break space and `_` for a full one.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from string import Formatter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.features import INPUT_NAMES
from boursomatic_assets.core.recommendations.amounts import MINUS, amount, percent, percent_size
from boursomatic_assets.core.recommendations.reasons import Facts, justify
from boursomatic_assets.core.recommendations.sentences import CATALOGUE
from boursomatic_assets_tests.support.strategies import justified_facts

LABELS = ("BUY", "HOLD", "SELL")
FEATURES: dict[str, float | None] = {
    "ret_1d": 0.004,
    "ret_5d": 0.021,
    "ret_20d": -0.0604,
    "rsi_14": 28.4,
    "momentum_5d": 0.021,
    "vol_20d": 0.0213,
    "atr_14": 3.2,
    "natr_14": 0.025,
    "volume_zscore": 2.64,
}
# 3.2 / 128 = 2.5 % of the close
BUY = Facts(
    label="BUY",
    held_back=None,
    probability=0.62,
    calibrated={"BUY": 0.62, "HOLD": 0.25, "SELL": 0.13},
    expected_return=0.0312,
    horizon=20,
    features=FEATURES,
    close=128.0,
    contributions={"ret_20d": 0.4, "rsi_14": 0.3, "vol_20d": -0.1},
    profile="moderate",
    max_volatility=0.03,
    tau=0.38,
)


def given_label(label: str, buy: float, hold: float, sell: float, **others: object) -> Facts:
    calibrated = {"BUY": buy, "HOLD": hold, "SELL": sell}
    return replace(BUY, label=label, calibrated=calibrated, probability=calibrated[label], **others)  # type: ignore[arg-type]


def english(facts: Facts) -> str:
    return justify(facts)["en"].replace(MINUS, "-")


def french(facts: Facts) -> str:
    """The French text with its spaces visible."""
    return justify(facts)["fr"].replace(MINUS, "-").replace("\u202f", "~").replace("\u00a0", "_")


def first_sentences(facts: Facts) -> tuple[str, str]:
    """What happened, in both languages: up to the first full stop that ends a sentence."""
    return english(facts).split(". ")[0], french(facts).split(". ")[0]


def told(name: str, value: float | None, **others: object) -> tuple[str, str]:
    """The first sentence, where one feature alone counts, without what the model makes of it."""
    features = FEATURES | {name: value}
    facts = replace(BUY, features=features, contributions={name: 1.0}, **others)  # type: ignore[arg-type]
    in_english, in_french = first_sentences(facts)
    return (
        in_english.removesuffix(", which the model counts for BUY"),
        in_french.removesuffix(", ce qui, pour le modèle, plaide en faveur de BUY (acheter)"),
    )


def test_justify_a_sure_buy() -> None:
    assert english(BUY) == (
        # -0.0604 is 6.0 %; 28.4 is at least 20 below 50; 0.1 < 0.3 x 0.4 would be no second, 0.3 is one
        "The price fell 6 % over the last month and recent falls clearly outweigh recent rises (RSI 28 out of "
        "100): the model counts both for BUY. "
        # 0.62 >= 0.50 and 0.25 + 0.10 = 0.35 <= 0.62
        "The model puts the chance of BUY at 62 %, of HOLD at 25 % and of SELL at 13 %: BUY is clearly the "
        "likeliest. The model forecasts a rise of 3.1 % over the next 20 trading days."
    )
    assert french(BUY) == (
        "Le cours a perdu 6~% en un mois et les baisses récentes l'emportent nettement sur les hausses récentes "
        "(RSI de 28 sur 100)_: pour le modèle, ces deux éléments plaident en faveur de BUY (acheter). Le modèle "
        "évalue les chances de BUY à 62~%, celles de HOLD (conserver) à 25~% et celles de SELL (vendre) à 13~%_: "
        "BUY est nettement le plus probable. Le modèle prévoit une hausse de 3,1~% sur les 20 prochaines séances."
    )


def test_justify_an_unsure_sell_whose_forecast_contradicts_it() -> None:
    facts = given_label(
        "SELL", 0.35, 0.24, 0.41, contributions={"vol_20d": 0.3, "ret_20d": -0.2}, sell_threshold=-0.025
    )
    assert english(facts) == (
        "The price moves by about 2.1 % a day and fell 6 % over the last month: the model counts the first for "
        "SELL, the second against it. "
        # 0.41 < 0.50
        "The model puts the chance of SELL at 41 %, of BUY at 35 % and of HOLD at 24 %: it is unsure. "
        "SELL stands for a return of -2.5 % or less over the next 20 trading days; the model's forecast points the "
        "other way, to a rise of 3.1 %."
    )
    assert french(facts) == (
        "Le cours varie d'environ 2,1~% par séance et a perdu 6~% en un mois_: pour le modèle, le premier élément "
        "plaide en faveur de SELL (vendre), le second contre. Le modèle évalue les chances de SELL à 41~%, celles "
        "de BUY (acheter) à 35~% et celles de HOLD (conserver) à 24~%_: il n'est pas sûr de lui. SELL correspond "
        "à un rendement de -2,5~% ou moins sur les 20 prochaines séances~; la prévision du modèle va dans l'autre "
        "sens, avec une hausse de 3,1~%."
    )


def test_justify_a_hold_for_want_of_probability() -> None:
    facts = given_label(
        "HOLD", 0.20, 0.70, 0.10, held_back="probability", contributions={"volume_zscore": -0.2, "ret_1d": 0.1}
    )
    assert english(facts) == (
        "The latest volume is far above its average of the last month (by 2.6 times its usual variation) and the "
        "price rose 0.4 % on the last trading day: the model counts the first against HOLD, the second in its "
        "favour. Neither BUY nor SELL meets what the moderate profile asks for. The model puts the chance of HOLD "
        "at 70 %, of BUY at 20 % and of SELL at 10 %: HOLD is clearly the likeliest."
    )
    assert french(facts) == (
        "Le volume de la dernière séance dépasse nettement sa moyenne du dernier mois (de 2,6 fois sa variation "
        "habituelle) et le cours a gagné 0,4~% lors de la dernière séance_: pour le modèle, le premier élément "
        "plaide contre HOLD (conserver), le second en sa faveur. Ni BUY (acheter) ni SELL (vendre) ne répond aux "
        "exigences du profil modéré. Le modèle évalue les chances de HOLD à 70~%, celles de BUY à 20~% et celles "
        "de SELL à 10~%_: HOLD est nettement le plus probable."
    )


def test_justify_a_hold_below_the_threshold() -> None:
    facts = given_label("HOLD", 0.42, 0.38, 0.20, held_back="threshold", tau=0.4123, contributions={"atr_14": -0.2})
    assert english(facts) == (
        "The price covers a range of 3.2 on an average day (2.5 % of its level), which the model counts against "
        "HOLD. BUY is likely enough for the moderate profile, but its raw score stays below 41.23 %, the model's "
        "own threshold. "
        # 0.42 < 0.50, and the largest is not that of HOLD
        "The model puts the chance of HOLD at 38 %, of BUY at 42 % and of SELL at 20 %: it is unsure, and BUY is "
        "ahead."
    )
    assert french(facts) == (
        "Le cours parcourt en moyenne un écart de 3,2 par séance (2,5~% de son niveau), ce qui, pour le modèle, "
        "plaide contre HOLD (conserver). BUY (acheter) est assez probable pour le profil modéré, mais son score "
        "brut reste inférieur à 41,23~%, le seuil propre au modèle. Le modèle évalue les chances de HOLD à 38~%, "
        "celles de BUY à 42~% et celles de SELL (vendre) à 20~%_: il n'est pas sûr de lui, et BUY est en tête."
    )


def test_justify_a_hold_above_the_volatility_limit() -> None:
    facts = given_label(
        "HOLD", 0.60, 0.30, 0.10, held_back="volatility", profile="conservative", max_volatility=0.02,
        contributions={"ret_20d": -0.2, "ret_5d": -0.15, "momentum_5d": 0.01},
    )  # fmt: skip
    assert english(facts) == (
        "The price fell 6 % over the last month and rose 2.1 % over the last week: the model counts both against "
        "HOLD. BUY is likely enough for the conservative profile, but the price moves by about 2.1 % a day, more "
        "than this profile's limit of 2 %. The model puts the chance of HOLD at 30 %, of BUY at 60 % and of SELL "
        "at 10 %: BUY is clearly the likeliest."
    )
    assert french(facts) == (
        "Le cours a perdu 6~% en un mois et a gagné 2,1~% en une semaine_: pour le modèle, ces deux éléments "
        "plaident contre HOLD (conserver). BUY (acheter) est assez probable pour le profil prudent, mais le cours "
        "varie d'environ 2,1~% par séance, plus que la limite de 2~% de ce profil. Le modèle évalue les chances "
        "de HOLD à 30~%, celles de BUY à 60~% et celles de SELL (vendre) à 10~%_: BUY est nettement le plus "
        "probable."
    )


def test_justify_says_just_above_where_volatility_rounds_to_the_limit() -> None:
    # 2.04 % is told as 2 %, which is not more than 2 %
    facts = given_label(
        "HOLD", 0.6, 0.3, 0.1, held_back="volatility", max_volatility=0.02, features=FEATURES | {"vol_20d": 0.0204}
    )
    texts = justify(facts)["en"], french(facts)
    assert "moves by about 2 % a day, just above this profile's limit of 2 %." in texts[0]
    assert "varie d'environ 2~% par séance, juste au-dessus de la limite de 2~% de ce profil." in texts[1]


@pytest.mark.parametrize("volatility", [None, math.nan])
def test_justify_says_where_volatility_is_not_known(volatility: float | None) -> None:
    features = FEATURES | {"vol_20d": volatility}
    facts = given_label("HOLD", 0.6, 0.3, 0.1, held_back="volatility", features=features)
    assert "but it is not known how widely the price moves, for which this profile has a limit." in english(facts)


def test_justify_gives_no_number_of_an_unknown_threshold() -> None:
    facts = given_label("HOLD", 0.42, 0.38, 0.20, held_back="threshold", tau=None)
    assert "but its raw score stays below the model's own threshold." in justify(facts)["en"]
    assert "mais son score brut reste inférieur au seuil propre au modèle." in french(facts)


@pytest.mark.parametrize(
    ("buy", "hold", "sell", "verdict"),
    [
        (0.50, 0.40, 0.10, "BUY is clearly the likeliest"),
        (0.49, 0.26, 0.25, "it is unsure"),
        # 0.45 + 0.10 = 0.55 > 0.52
        (0.52, 0.45, 0.03, "it is unsure"),
        # As likely: the label given goes first.
        (0.45, 0.45, 0.10, "it is unsure"),
        (0.40, 0.45, 0.15, "it is unsure, and HOLD is ahead, but BUY is likely enough for the aggressive profile"),
        (0.36, 0.60, 0.04, "HOLD is clearly the likeliest, but BUY is likely enough for the aggressive profile"),
    ],
)
def test_justify_says_how_sure_the_model_is(buy: float, hold: float, sell: float, verdict: str) -> None:
    assert f": {verdict}. " in justify(given_label("BUY", buy, hold, sell, profile="aggressive"))["en"]


def test_justify_never_says_impossible_or_certain() -> None:
    facts = given_label("BUY", 0.997, 0.003, 0.0)
    assert "BUY at more than 99 %, of HOLD at less than 1 % and of SELL at less than 1 %:" in justify(facts)["en"]
    assert "de BUY à plus de 99~%, celles de HOLD (conserver) à moins de 1~%" in french(facts)


@pytest.mark.parametrize(
    ("label", "forecast", "horizon", "expected", "in_french"),
    [
        ("BUY", -0.012, 20,
         "The model's forecast points the other way, to a fall of 1.2 % over the next 20 trading days.",
         "La prévision du modèle va dans l'autre sens, avec une baisse de 1,2~% sur les 20 prochaines séances."),
        ("SELL", -0.25, 5, "The model forecasts a fall of 25 % over the next 5 trading days.",
         "Le modèle prévoit une baisse de 25~% sur les 5 prochaines séances."),
        ("BUY", 0.02, 1, "The model forecasts a rise of 2 % over the next trading day.",
         "Le modèle prévoit une hausse de 2~% sur la prochaine séance."),
        # -0.04 % is no fall worth a word, and contradicts nothing
        ("BUY", -0.0004, 20, "The model forecasts hardly any change over the next 20 trading days.",
         "Le modèle prévoit un cours presque inchangé sur les 20 prochaines séances."),
    ],
)  # fmt: skip
def test_justify_says_what_is_expected(
    label: str, forecast: float, horizon: int, expected: str, in_french: str
) -> None:
    facts = given_label(label, 0.4, 0.2, 0.4, expected_return=forecast, horizon=horizon)
    assert english(facts).endswith(expected)
    assert french(facts).endswith(in_french)


def test_justify_says_what_buy_means_where_it_is_known() -> None:
    facts = replace(BUY, buy_threshold=0.05, sell_threshold=-0.02)
    assert english(facts).endswith(
        "BUY stands for a return of +5 % or more over the next 20 trading days; the model forecasts a rise of 3.1 "
        "%."
    )
    assert french(facts).endswith(
        "BUY correspond à un rendement de +5~% ou plus sur les 20 prochaines séances~; le modèle prévoit une "
        "hausse de 3,1~%."
    )
    # Only the bound of the label itself matters.
    assert justify(replace(BUY, sell_threshold=-0.02)) == justify(BUY)


@pytest.mark.parametrize(
    ("name", "value", "expected", "in_french"),
    [
        ("ret_1d", 0.1234,
         "The price rose 12 % on the last trading day", "Le cours a gagné 12~% lors de la dernière séance"),
        ("ret_5d", -0.0004,
         "The price hardly changed over the last week", "Le cours n'a presque pas changé en une semaine"),
        ("momentum_5d", 0.021, "The price rose 2.1 % over the last week", "Le cours a gagné 2,1~% en une semaine"),
        ("ret_20d", 12.345, "The price rose 1,234 % over the last month", "Le cours a gagné 1~234~% en un mois"),
        ("rsi_14", 70.0, "Recent rises clearly outweigh recent falls (RSI 70 out of 100)",
         "Les hausses récentes l'emportent nettement sur les baisses récentes (RSI de 70 sur 100)"),
        ("rsi_14", 56.0, "Recent rises outweigh recent falls (RSI 56 out of 100)",
         "Les hausses récentes l'emportent sur les baisses récentes (RSI de 56 sur 100)"),
        ("rsi_14", 55.0, "Recent rises and falls nearly balance (RSI 55 out of 100)",
         "Les hausses et les baisses récentes s'équilibrent à peu près (RSI de 55 sur 100)"),
        ("rsi_14", 31.0, "Recent falls outweigh recent rises (RSI 31 out of 100)",
         "Les baisses récentes l'emportent sur les hausses récentes (RSI de 31 sur 100)"),
        ("rsi_14", None, "The price has never moved", "Le cours n'a jamais bougé"),
        ("vol_20d", 0.0002, "The price hardly moves from one day to the next",
         "Le cours ne varie presque pas d'une séance à l'autre"),
        # 0.0128 / 128 = 0.01 %
        ("atr_14", 0.0128, "The price covers hardly any range on an average day",
         "Le cours ne parcourt presque aucun écart au cours d'une séance moyenne"),
        ("natr_14", 0.025, "The price covers a range of 2.5 % of its level on an average day",
         "Le cours parcourt en moyenne un écart de 2,5~% de son niveau par séance"),
        ("natr_14", 0.0001, "The price covers hardly any range on an average day",
         "Le cours ne parcourt presque aucun écart au cours d'une séance moyenne"),
        ("natr_14", None, "The feature natr_14 has no value", "La variable natr_14 n'a pas de valeur"),
        # A feature that is new has no words of its own yet.
        ("beta_250d", -1.234, "The feature beta_250d is -1.23", "La variable beta_250d vaut -1,23"),
        ("beta_250d", None, "The feature beta_250d has no value", "La variable beta_250d n'a pas de valeur"),
        ("ret_20d", None, "The feature ret_20d has no value", "La variable ret_20d n'a pas de valeur"),
        ("ret_20d", math.nan, "The feature ret_20d has no value", "La variable ret_20d n'a pas de valeur"),
        ("beta_250d", math.inf, "The feature beta_250d has no value", "La variable beta_250d n'a pas de valeur"),
    ],
)  # fmt: skip
def test_justify_puts_a_feature_in_words(name: str, value: float | None, expected: str, in_french: str) -> None:
    assert told(name, value) == (expected, in_french)


@pytest.mark.parametrize(
    ("score", "expected", "in_french"),
    [
        (-0.44, "is close to", "est proche de"),
        (1.0, "is above", "dépasse"),
        (2.64, "is far above", "dépasse nettement"),
        (-1.94, "is below", "est inférieur à"),
        # Told as 2.0, which is far.
        (-1.96, "is far below", "est nettement inférieur à"),
    ],
)
def test_justify_puts_a_volume_in_words(score: float, expected: str, in_french: str) -> None:
    texts = told("volume_zscore", score)
    assert texts[0].startswith(f"The latest volume {expected} its average of the last month")
    assert texts[1].startswith(f"Le volume de la dernière séance {in_french} sa moyenne du dernier mois")


def test_justify_says_how_far_a_volume_is_from_usual() -> None:
    assert told("volume_zscore", -1.94)[0].endswith("last month (by 1.9 times its usual variation)")
    assert told("volume_zscore", -1.94)[1].endswith("dernier mois (de 1,9 fois sa variation habituelle)")
    assert told("volume_zscore", 0.44)[0].endswith("last month")


def test_justify_a_volume_that_never_varied() -> None:
    assert told("volume_zscore", None) == (
        "The latest volume is the same as on every day of the last month",
        "Le volume de la dernière séance est le même qu'à chaque séance du dernier mois",
    )


@pytest.mark.parametrize("name", INPUT_NAMES)
def test_justify_has_words_for_every_feature(name: str) -> None:
    assert "feature" not in told(name, FEATURES[name])[0]


def test_justify_joins_moves_in_the_same_direction() -> None:
    facts = replace(BUY, features=FEATURES | {"ret_5d": -0.02}, contributions={"ret_20d": -0.4, "ret_5d": 0.3})
    texts = first_sentences(facts)
    assert texts[0] == (
        "The price fell 6 % over the last month and 2 % over the last week: the model counts the first against "
        "BUY, the second in its favour"
    )
    assert texts[1] == (
        "Le cours a perdu 6~% en un mois et 2~% en une semaine_: pour le modèle, le premier élément plaide contre "
        "BUY (acheter), le second en sa faveur"
    )


def test_justify_tells_features_without_words_apart() -> None:
    facts = replace(BUY, features={"a": 1.0, "b": 1.0}, contributions={"a": 0.2, "b": 0.2})
    # As large: by name.
    assert first_sentences(facts)[0] == "The feature a is 1 and the feature b is 1: the model counts both for BUY"


def test_justify_tells_equal_features_once_with_their_sum() -> None:
    # 0.2 + 0.15 = 0.35 against 0.3; each alone is smaller than 0.3
    contributions = {"ret_5d": 0.2, "ret_20d": -0.3, "momentum_5d": 0.15}
    assert first_sentences(replace(BUY, contributions=contributions))[0] == (
        "The price rose 2.1 % over the last week and fell 6 % over the last month: the model counts the first for "
        "BUY, the second against it"
    )
    # 0.2 - 0.2 = 0: together they add nothing
    cancelled = {"ret_5d": 0.2, "ret_20d": -0.3, "momentum_5d": -0.2}
    assert "week" not in justify(replace(BUY, contributions=cancelled))["en"]


@pytest.mark.parametrize(("second", "is_told"), [(0.3, True), (-0.3, True), (0.29, False)])
def test_justify_tells_a_second_feature_from_three_tenths_of_the_first(second: float, *, is_told: bool) -> None:
    contributions = {"ret_20d": 1.0, "vol_20d": second}
    assert ("moves by about" in justify(replace(BUY, contributions=contributions))["en"]) is is_told


@pytest.mark.parametrize("contributions", [{}, {"ret_20d": 0.0, "vol_20d": -0.0}])
def test_justify_says_where_no_feature_moves_the_model(contributions: dict[str, float]) -> None:
    assert first_sentences(replace(BUY, contributions=contributions)) == (
        "No feature moves the model towards BUY or away from it",
        "Aucune variable ne rapproche le modèle de BUY (acheter) ni ne l'en éloigne",
    )


@pytest.mark.parametrize(
    ("fraction", "size"),
    [(0.0, "0"), (-0.0004, "0"), (0.0006, "0.1"), (-0.06, "6"), (0.0994, "9.9"), (0.0996, "10"), (-0.5, "50")],
)
def test_percent_size(fraction: float, size: str) -> None:
    assert percent_size(fraction) == size


@pytest.mark.parametrize(
    ("fraction", "bound"),
    [(0.05, "+5"), (-0.02, "-2"), (0.0225, "+2.25"), (0.0, "0"), (-0.0, "0"), (10.0, "+1,000")],
)
def test_percent(fraction: float, bound: str) -> None:
    assert percent(fraction, "+").replace(MINUS, "-") == bound


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (100.0, "100"),
        (99.999, "100"),
        (3.204, "3.2"),
        (0.0312, "0.0312"),
        (0.00001234, "0.0000123"),
        (-1.5, "-1.5"),
        (0.0, "0"),
        (-0.0, "0"),
        (-1e-300, "0"),
    ],
)
def test_amount(value: float, text: str) -> None:
    assert amount(value).replace(MINUS, "-") == text


def test_catalogue_has_the_same_blanks_in_both_languages() -> None:
    for in_english, in_french in CATALOGUE.values():
        blanks = [
            {blank for _, blank, _, _ in Formatter().parse(text) if blank} for text in (in_english, in_french)
        ]
        assert blanks[0] == blanks[1], in_english


ADVICE = re.compile(
    r"\b(should|must|ought|recommend\w*|advi[sc]e\w*|consider|now)\b"
    r"|\b(devr\w+|doi\w+|faut|conseil\w*|recommand\w*|achetez|vendez|maintenant)\b",
    re.IGNORECASE,
)
NONSENSE = re.compile(r"\b(nan|none|inf|null)\b|[-\u2212+]0(?![.,\d])|[{}]|\s{2}|\de[-+]?\d", re.IGNORECASE)


@given(justified_facts())
def test_justify_gives_two_or_three_sentences_without_advice_or_nonsense(facts: Facts) -> None:
    texts = justify(facts)
    assert list(texts) == ["en", "fr"]
    for text in texts.values():
        sentences = re.split(r"(?<=\.) ", text)
        assert 2 <= len(sentences) <= 3
        assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in sentences)
        assert not ADVICE.search(text), text
        assert not NONSENSE.search(text), text


@given(justified_facts())
def test_justify_french_spaces_do_not_break(facts: Facts) -> None:
    text = justify(facts)["fr"]
    assert not re.search(r" [%;:]|\d [\d%]|\d\.\d", text), text
    assert not re.search(r"[^\u202f]%|[^\u00a0]:|[^\u202f];", text), text


def numbers(text: str, decimal: str, thousands: str) -> list[str]:
    """Every number of a text, written as Python writes it."""
    found = re.findall(rf"(?<!\w)\u2212?\d[\d{thousands}{decimal}]*", text)
    return [
        number.replace(thousands, "").rstrip(decimal).replace(decimal, ".").replace(MINUS, "-") for number in found
    ]


@given(justified_facts())
def test_justify_says_the_same_numbers_and_labels_in_both_languages(facts: Facts) -> None:
    texts = justify(facts)
    assert numbers(texts["en"], ".", ",") == numbers(texts["fr"], ",", "\u202f")
    assert re.findall("BUY|HOLD|SELL", texts["en"]) == re.findall("BUY|HOLD|SELL", texts["fr"])


def is_rounded_from(number: str, value: float) -> bool:
    """Whether a number as it is written is that value, to half of its last digit."""
    half = 0.5 * 10 ** -len(number.partition(".")[2])
    return abs(float(number) - value) <= half * (1 + 1e-9)


@given(justified_facts())
def test_justify_gives_only_numbers_of_the_facts(facts: Facts) -> None:
    values = [value for value in facts.features.values() if value is not None]
    fractions = [*values, *facts.calibrated.values(), facts.expected_return, facts.max_volatility]
    fractions += [bound for bound in (facts.tau, facts.buy_threshold, facts.sell_threshold) if bound is not None]
    # The average range is told relative to the close too.
    fractions += [value / facts.close for value in values]
    # RSI is out of 100; no chance is told as less than 1 % or as more than 99 %.
    sources = [100.0, 1.0, 99.0, float(facts.horizon), *values, *(100 * fraction for fraction in fractions)]
    # The sign of a bound is written; a fall has its size.
    sources += [-source for source in sources]
    for number in numbers(justify(facts)["en"], ".", ","):
        assert any(is_rounded_from(number, source) for source in sources), number


@given(justified_facts())
def test_justify_does_not_depend_on_the_order_of_facts(facts: Facts) -> None:
    turned = replace(
        facts,
        contributions=dict(reversed(facts.contributions.items())),  # type: ignore[call-overload]
        features=dict(reversed(facts.features.items())),  # type: ignore[call-overload]
        calibrated=dict(reversed(facts.calibrated.items())),  # type: ignore[call-overload]
    )
    assert justify(turned) == justify(facts)


@given(justified_facts(), st.sampled_from([name for name in INPUT_NAMES if name != "momentum_5d"]))
def test_justify_tells_the_largest_contribution_first(facts: Facts, name: str) -> None:
    others = {other: value for other, value in facts.contributions.items() if other not in {name, "momentum_5d"}}
    # Four times all others together: none of them is three tenths of it.
    largest = 4 * sum(abs(value) for value in others.values()) + 1
    alone, larger = (
        first_sentences(replace(facts, contributions=given | {name: largest}))[0] for given in ({}, others)
    )
    assert larger == alone
    assert f", which the model counts for {facts.label}" in alone


SIDES = {"for": "against", "against": "for", "in its favour": "against it", "against it": "in its favour"}
SIDE = re.compile(r"(?<=counts )(for|against)|(?<=(?:both|irst) )(for|against)|in its favour|against it")


@given(justified_facts())
def test_justify_turns_sides_with_the_contributions(facts: Facts) -> None:
    turned = replace(facts, contributions={name: -value for name, value in facts.contributions.items()})
    assume(any(facts.contributions.values()))
    here, there = (first_sentences(given)[0] for given in (facts, turned))
    assume("moves the model" not in here)
    assert SIDE.sub(lambda found: SIDES[found[0]], here) == there

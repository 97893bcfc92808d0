"""The words of justifications in English and in French, side by side.

`reasons` chooses what is said; no language says more than the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Remark(NamedTuple):
    """A statement in no language yet: key of the catalogues, and what fills its blanks."""

    entry: str
    parts: Mapping[str, Remark | str] = MappingProxyType({})


@dataclass(frozen=True)
class Language:
    """Texts of a language, its marks of decimals and thousands, and the meaning of each label at first mention."""

    catalogue: Mapping[str, str]
    numerals: Mapping[int, str] = field(default_factory=dict)
    glosses: Mapping[str, str] = field(default_factory=dict)

    def tell(self, remarks: Sequence[Remark]) -> str:
        """Put each remark as one sentence."""
        sentences = (self._put(remark) for remark in remarks)
        text = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
        for label, meaning in self.glosses.items():
            text = text.replace(label, f"{label} ({meaning})", 1)
        return text

    def _put(self, remark: Remark | str) -> str:
        if isinstance(remark, str):
            return remark.translate(self.numerals)
        said = self.catalogue[remark.entry]
        if not remark.parts:
            return said
        return said.format_map({name: self._put(part) for name, part in remark.parts.items()})


def chance(probability: float) -> Remark:
    """A probability to the percent; never as impossible or certain."""
    size = f"{100 * probability:.0f}"
    if size in {"0", "100"}:
        return Remark("below", {"size": "1"}) if size == "0" else Remark("above", {"size": "99"})
    return Remark("percent", {"size": size})


# What each remark is in English and in French.
CATALOGUE = {
    "BUY": ("BUY", "BUY"),
    "HOLD": ("HOLD", "HOLD"),
    "SELL": ("SELL", "SELL"),
    "conservative": ("conservative", "prudent"),
    "moderate": ("moderate", "modéré"),
    "aggressive": ("aggressive", "offensif"),
    "percent": ("{size} %", "{size} %"),
    "above": ("more than {size} %", "plus de {size} %"),
    "below": ("less than {size} %", "moins de {size} %"),
    # Subjects and predicates.
    "clause": ("{subject} {predicate}", "{subject} {predicate}"),
    "price": ("the price", "le cours"),
    "volume": ("the latest volume", "le volume de la dernière séance"),
    "rises": ("recent rises", "les hausses récentes"),
    "falls": ("recent falls", "les baisses récentes"),
    "rises and falls": ("recent rises and falls", "les hausses et les baisses récentes"),
    "feature": ("the feature {name}", "la variable {name}"),
    "ret_1d": ("on the last trading day", "lors de la dernière séance"),
    "ret_5d": ("over the last week", "en une semaine"),
    "ret_20d": ("over the last month", "en un mois"),
    "rose": ("rose {size} % {span}", "a gagné {size} % {span}"),
    "fell": ("fell {size} % {span}", "a perdu {size} % {span}"),
    "as well": ("{size} % {span}", "{size} % {span}"),
    "stayed": ("hardly changed {span}", "n'a presque pas changé {span}"),
    "never moved": ("has never moved", "n'a jamais bougé"),
    "swings": ("moves by about {size} % a day", "varie d'environ {size} % par séance"),
    "is calm": ("hardly moves from one day to the next", "ne varie presque pas d'une séance à l'autre"),
    "ranges": (
        "covers a range of {amount} on an average day ({size} % of its level)",
        "parcourt en moyenne un écart de {amount} par séance ({size} % de son niveau)",
    ),
    "ranges relatively": (
        "covers a range of {size} % of its level on an average day",
        "parcourt en moyenne un écart de {size} % de son niveau par séance",
    ),
    "ranges little": (
        "covers hardly any range on an average day",
        "ne parcourt presque aucun écart au cours d'une séance moyenne",
    ),
    "outweigh falls": (
        "outweigh recent falls (RSI {level} out of 100)",
        "l'emportent sur les baisses récentes (RSI de {level} sur 100)",
    ),
    "clearly outweigh falls": (
        "clearly outweigh recent falls (RSI {level} out of 100)",
        "l'emportent nettement sur les baisses récentes (RSI de {level} sur 100)",
    ),
    "outweigh rises": (
        "outweigh recent rises (RSI {level} out of 100)",
        "l'emportent sur les hausses récentes (RSI de {level} sur 100)",
    ),
    "clearly outweigh rises": (
        "clearly outweigh recent rises (RSI {level} out of 100)",
        "l'emportent nettement sur les hausses récentes (RSI de {level} sur 100)",
    ),
    "balance": ("nearly balance (RSI {level} out of 100)", "s'équilibrent à peu près (RSI de {level} sur 100)"),
    "is usual": ("is close to its average of the last month", "est proche de sa moyenne du dernier mois"),
    "is high": (
        "is above its average of the last month (by {times} times its usual variation)",
        "dépasse sa moyenne du dernier mois (de {times} fois sa variation habituelle)",
    ),
    "is very high": (
        "is far above its average of the last month (by {times} times its usual variation)",
        "dépasse nettement sa moyenne du dernier mois (de {times} fois sa variation habituelle)",
    ),
    "is low": (
        "is below its average of the last month (by {times} times its usual variation)",
        "est inférieur à sa moyenne du dernier mois (de {times} fois sa variation habituelle)",
    ),
    "is very low": (
        "is far below its average of the last month (by {times} times its usual variation)",
        "est nettement inférieur à sa moyenne du dernier mois (de {times} fois sa variation habituelle)",
    ),
    "never varied": (
        "is the same as on every day of the last month",
        "est le même qu'à chaque séance du dernier mois",
    ),
    "is": ("is {amount}", "vaut {amount}"),
    "is unknown": ("has no value", "n'a pas de valeur"),
    # How the model counts them.
    "nothing": (
        "no feature moves the model towards {label} or away from it.",
        "aucune variable ne rapproche le modèle de {label} ni ne l'en éloigne.",
    ),
    "for": (
        "{first}, which the model counts for {label}.",
        "{first}, ce qui, pour le modèle, plaide en faveur de {label}.",
    ),
    "against": (
        "{first}, which the model counts against {label}.",
        "{first}, ce qui, pour le modèle, plaide contre {label}.",
    ),
    "for and for": (
        "{first} and {second}: the model counts both for {label}.",
        "{first} et {second} : pour le modèle, ces deux éléments plaident en faveur de {label}.",
    ),
    "against and against": (
        "{first} and {second}: the model counts both against {label}.",
        "{first} et {second} : pour le modèle, ces deux éléments plaident contre {label}.",
    ),
    "for and against": (
        "{first} and {second}: the model counts the first for {label}, the second against it.",
        "{first} et {second} : pour le modèle, le premier élément plaide en faveur de {label}, le second contre.",
    ),
    "against and for": (
        "{first} and {second}: the model counts the first against {label}, the second in its favour.",
        "{first} et {second} : pour le modèle, le premier élément plaide contre {label}, le second en sa faveur.",
    ),
    # What kept it from a call.
    "probability": (
        "neither BUY nor SELL meets what the {profile} profile asks for.",
        "ni BUY ni SELL ne répond aux exigences du profil {profile}.",
    ),
    "almost": (
        "BUY is likely enough for the {profile} profile, but {reason}.",
        "BUY est assez probable pour le profil {profile}, mais {reason}.",
    ),
    "threshold": (
        "its raw score stays below {bound} %, the model's own threshold",
        "son score brut reste inférieur à {bound} %, le seuil propre au modèle",
    ),
    "some threshold": (
        "its raw score stays below the model's own threshold",
        "son score brut reste inférieur au seuil propre au modèle",
    ),
    "volatility": (
        "the price moves by about {size} % a day, more than this profile's limit of {bound} %",
        "le cours varie d'environ {size} % par séance, plus que la limite de {bound} % de ce profil",
    ),
    "slight volatility": (
        "the price moves by about {size} % a day, just above this profile's limit of {bound} %",
        "le cours varie d'environ {size} % par séance, juste au-dessus de la limite de {bound} % de ce profil",
    ),
    "no volatility": (
        "it is not known how widely the price moves, for which this profile has a limit",
        "on ignore de combien le cours varie, ce que ce profil limite",
    ),
    # How sure the model is.
    "chances": (
        "the model puts the chance of {first}, of {second} and of {third}: {verdict}.",
        "le modèle évalue les chances de {first}, celles de {second} et celles de {third} : {verdict}.",
    ),
    "label at chance": ("{label} at {chance}", "{label} à {chance}"),
    "clear": ("{best} is clearly the likeliest", "{best} est nettement le plus probable"),
    "unsure": ("it is unsure", "il n'est pas sûr de lui"),
    "unsure, other ahead": ("it is unsure, and {best} is ahead", "il n'est pas sûr de lui, et {best} est en tête"),
    "other called": (
        "{lead}, but {label} is likely enough for the {profile} profile",
        "{lead}, mais {label} est assez probable pour le profil {profile}",
    ),
    # What it expects.
    "span": ("the next {sessions} trading days", "les {sessions} prochaines séances"),
    "next": ("the next trading day", "la prochaine séance"),
    "rise": ("a rise of {size} %", "une hausse de {size} %"),
    "fall": ("a fall of {size} %", "une baisse de {size} %"),
    "no change": ("hardly any change", "un cours presque inchangé"),
    "forecast": ("the model forecasts {outcome} over {span}.", "le modèle prévoit {outcome} sur {span}."),
    "contrary forecast": (
        "the model's forecast points the other way, to {outcome} over {span}.",
        "la prévision du modèle va dans l'autre sens, avec {outcome} sur {span}.",
    ),
    "at least": (
        "{label} stands for a return of {bound} % or more over {span}",
        "{label} correspond à un rendement de {bound} % ou plus sur {span}",
    ),
    "at most": (
        "{label} stands for a return of {bound} % or less over {span}",
        "{label} correspond à un rendement de {bound} % ou moins sur {span}",
    ),
    "meaning": ("{meaning}; the model forecasts {outcome}.", "{meaning} ; le modèle prévoit {outcome}."),
    "contrary meaning": (
        "{meaning}; the model's forecast points the other way, to {outcome}.",
        "{meaning} ; la prévision du modèle va dans l'autre sens, avec {outcome}.",
    ),
}


def _french_spaces(text: str) -> str:
    """Set the no-break spaces before French signs: narrow ones, and a full one before a colon."""
    return (
        text.replace(" %", "\N{NARROW NO-BREAK SPACE}%")
        .replace(" ;", "\N{NARROW NO-BREAK SPACE};")
        .replace(" :", "\N{NO-BREAK SPACE}:")
    )


LANGUAGES = {
    "en": Language({entry: english for entry, (english, _) in CATALOGUE.items()}),
    "fr": Language(
        {entry: _french_spaces(french) for entry, (_, french) in CATALOGUE.items()},
        numerals=str.maketrans({".": ",", ",": "\N{NARROW NO-BREAK SPACE}"}),
        glosses={"BUY": "acheter", "HOLD": "conserver", "SELL": "vendre"},
    ),
}

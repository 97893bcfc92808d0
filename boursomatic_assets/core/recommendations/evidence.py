"""The stored evidence of a recommendation, read back and validated."""

from __future__ import annotations

from datetime import date  # noqa: TC003 (pydantic reads it)
from typing import Any, Literal, Self, TypeGuard

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from boursomatic_assets.core.dataset.experiment import Profile, Profiles
from boursomatic_assets.core.registry.serving import PRICED_BY


def is_of_this_platform(snapshot: object) -> TypeGuard[dict[str, Any]]:
    """Whether this platform wrote a stored snapshot: only such have a digest."""
    return isinstance(snapshot, dict) and "digest" in snapshot


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class _Shares(_Part):
    BUY: float
    HOLD: float
    SELL: float


class _NamedProfile(Profile):
    name: Literal["conservative", "moderate", "aggressive"]


class _Bars(_Part):
    inputs: str | None = None
    exchange: str | None = None
    # As `boursomatic_assets.core.market.vendor_actions.Adjustment` says.
    adjustments: list[tuple[date, float] | tuple[date, float, float]] | None = None


class Evidence(_Part):
    """The parts of a stored snapshot that a trace reads; `raw` is all of it."""

    session: date
    close: float
    features: dict[str, float | None]
    probabilities: _Shares
    calibrated: _Shares
    temperature: float
    tau: float | None
    predicted_return: float
    profile: _NamedProfile
    horizon: int
    justification: dict[str, str]
    model: dict[str, str | None]
    digest: str
    bars: _Bars = _Bars()
    run: dict[str, Any] = {}
    raw: dict[str, Any]

    @model_validator(mode="after")
    def _has_what_calls_need(self) -> Self:
        missing = [name for name in PRICED_BY if self.features.get(name) is None]
        if missing:
            message = f"features lack {', '.join(missing)}"
            raise ValueError(message)
        return self

    @classmethod
    def of(cls, snapshot: object) -> Evidence | str:
        """Read a stored snapshot; a text with the reason where it cannot be read."""
        if not is_of_this_platform(snapshot):
            return "the snapshot is not one of this platform's: another program wrote it"
        try:
            return cls.model_validate({**snapshot, "raw": snapshot})
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}" for fault in error.errors())
            return f"the snapshot cannot be read: {'; '.join(faults)}"

    @property
    def profiles(self) -> Profiles:
        """The recorded profile under every name."""
        profile = Profile(**{name: getattr(self.profile, name) for name in Profile.model_fields})
        return Profiles(conservative=profile, moderate=profile, aggressive=profile)

    @property
    def content(self) -> str | None:
        """Digest of the daily bars when the features were computed; None where none was recorded."""
        return self.bars.inputs.split(" ")[0] if self.bars.inputs else None
